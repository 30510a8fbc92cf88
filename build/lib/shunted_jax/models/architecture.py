"""Which network it is: the fields that a checkpoint keeps, and the comparison of two networks.

A field says either what the network is or how it is computed and trained. Parameters belong to the
first kind alone: with other heads they mean something else, at another drop rate they do not.
"""

from collections.abc import Iterable
from typing import Any

from shunted_jax.errors import UserError, wrong_names
from shunted_jax.models.fields import STAGE_FIELDS
from shunted_jax.models.registry import VARIANTS
from shunted_jax.models.shunted import ShuntedTransformer
from shunted_jax.retired import RETIRED

# Every checkpoint has these. A field that came later and that a checkpoint lacks had then the value
# that is the module's default now.
REQUIRED = (*STAGE_FIELDS, "num_stem_convs", "num_classes", "in_channels", "qkv_bias")

# How the network is computed and trained. All other fields of the module are its architecture.
_HOW = (
    *("drop_rate", "attn_drop_rate", "drop_path_rate"),
    *("compute", "remat", "scan_blocks", "dtype", "param_dtype", "precision"),
)

# What data and task decide, not the variant.
_FREE = ("num_classes", "in_channels")


def architecture_of(model: ShuntedTransformer) -> dict[str, Any]:
    """Returns the fields of `model` that say which network it is, as JSON holds them."""
    values = {name: getattr(model, name) for name in _architecture_fields()}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def network_of(architecture: dict[str, Any], where: Any) -> ShuntedTransformer:
    """Returns the network that a checkpoint names, as it is computed by default.

    Args:
        architecture: what `architecture_of` returned; fields of format 1 that say how the network
            was computed are ignored.
        where: the checkpoint's path, for messages.

    Raises:
        UserError: a field is not known, one is missing, or they fit no network.
    """
    kept = {n: value for n, value in architecture.items() if n not in (*_HOW, *RETIRED)}
    if problem := wrong_names(kept, _architecture_fields(), REQUIRED, kind="fields"):
        raise UserError(f"{where} describes a network that this program cannot build: {problem}")
    try:
        return ShuntedTransformer(**kept)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} describes no network that can be: {error}") from error


def differences_between(
    one: Any, other: ShuntedTransformer, but: Iterable[str] = ()
) -> list[tuple[str, Any, Any]]:
    """Returns (field, value of `one`, value of `other`) where two networks are not the same.

    Args:
        one: a `ShuntedTransformer`, or what has some of its fields as attributes: the others are
            not compared.
        other: a `ShuntedTransformer`; how each of them is computed makes no difference.
        but: fields that may differ.
    """
    names = [name for name in _architecture_fields() if name not in but and hasattr(one, name)]
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names]
    return [(name, mine, theirs) for name, mine, theirs in pairs if mine != theirs]


def differences_from_variant(model: Any, name: str) -> list[tuple[str, Any, Any]]:
    """Returns what `differences_between` does, for a variant with any head and any channels."""
    return differences_between(model, ShuntedTransformer(**VARIANTS[name]), but=_FREE)


def variant_of(model: ShuntedTransformer) -> str | None:
    """Returns the published variant's name whose backbone `model` has; None where there is none."""
    return next((name for name in VARIANTS if not differences_from_variant(model, name)), None)


def _architecture_fields() -> list[str]:
    others = ("parent", "name", *_HOW, *RETIRED)  # the first two are Flax's own
    return [name for name in ShuntedTransformer.__dataclass_fields__ if name not in others]
