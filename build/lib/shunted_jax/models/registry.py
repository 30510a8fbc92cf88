"""The published variants, a row each, and how to build one by name."""

from collections.abc import Collection

from shunted_jax.errors import nearest
from shunted_jax.models.fields import refuse_retired
from shunted_jax.models.shunted import ShuntedTransformer

# Paper section 3, "architecture details and variants"; the four widths, heads and ratios are the
# same in all three and stand as the module's defaults.
VARIANTS = {
    "shunted_t": {"depths": (1, 2, 4, 1), "num_stem_convs": 0},
    "shunted_s": {"depths": (2, 4, 12, 1), "num_stem_convs": 1},
    "shunted_b": {"depths": (3, 4, 24, 2), "num_stem_convs": 2},
}


def list_models() -> list[str]:
    """Returns the names that `create_model` takes, sorted."""
    return sorted(VARIANTS)


def create_model(name: str, **fields) -> ShuntedTransformer:
    """Builds a published variant.

    Args:
        name: one of `list_models()`.
        **fields: fields of `ShuntedTransformer` to set otherwise than the variant does, such as
            `num_classes=10`, `drop_path_rate=0.1` or `dtype=jnp.bfloat16`.

    Returns:
        The module; it holds no parameters, `init` makes them.

    Raises:
        ValueError: an unknown name, an unknown field, or fields that contradict each other.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown model {name!r}; the models are {', '.join(list_models())}")
    check_known_fields(fields)
    return ShuntedTransformer(**{**VARIANTS[name], **fields})


def check_known_fields(names: Collection[str]) -> None:
    """Raises ValueError for a name that is no field of `ShuntedTransformer`, with the nearest."""
    refuse_retired(names)
    known = set(ShuntedTransformer.__dataclass_fields__) - {"parent", "name"}
    for name in names:
        if name not in known:
            hint = nearest(name, known, kind="fields")
            raise ValueError(f"unknown field {name!r} of ShuntedTransformer; {hint}")
