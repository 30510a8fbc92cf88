"""A network's variables: their shapes, and the values that they start from."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from shunted_jax.models.cut import cut


def abstract_variables(model) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """Returns the shape and type of each of the model's variables, by path."""
    return traverse_util.flatten_dict(jax.eval_shape(_init_of(model), jax.random.key(0)))


def differing_shapes(
    variables: Mapping[tuple[str, ...], Any], wanted: Mapping[tuple[str, ...], Any]
) -> list[tuple[str, Any, Any]]:
    """Returns (name, shape there, shape wanted) of each variable whose shapes differ.

    Args:
        variables: arrays by path.
        wanted: arrays or their shapes and types by path, as `abstract_variables` returns them.
    """

    def shape(at: tuple[str, ...], leaves: Mapping[tuple[str, ...], Any]) -> Any:
        return leaves[at].shape if at in leaves else "nothing"

    return [
        ("/".join(at), shape(at, variables), shape(at, wanted))
        for at in sorted(variables.keys() | wanted.keys())
        if shape(at, variables) != shape(at, wanted)
    ]


def initial_values(model, key: jax.Array) -> dict[str, Any]:
    """Returns all that `model.init` draws, each variable as a `cut.Output` that draws it alone.

    As one program, `model.init` takes the compiler longer than a training step does: hundreds of
    random generators are in it. No initialiser is named or guessed here. The trace of `model.init`
    holds what each module declares, and whatever else a variable starts from.

    Args:
        model: a module that maps images, with fields `min_image_size` and `in_channels`.
        key: of the kind that values will be drawn with; it does not decide them.
    """
    return cut(_init_of(model), key)


def with_other_head(
    leaves: Mapping[tuple[str, ...], Any],
    model,
    before: int,
    where: Any,
    key: jax.Array | None = None,
) -> dict[tuple[str, ...], Any]:
    """Returns variables with the head that `model.init` draws; without one if it has no classes.

    A new head is told in a warning, to the caller of the function that calls this one.

    Args:
        leaves: arrays by path, with a head of `before` classes.
        model: the network that is to have them.
        before: how many classes the head had; 0 for none.
        where: it comes from, for the warning.
        key: decides the new head; None takes `jax.random.key(0)`.
    """
    kept = {at: leaf for at, leaf in leaves.items() if at[:2] != ("params", "head")}
    if model.num_classes == 0:
        return kept
    was = f"has a head of {before:,} classes" if before else "has no head"
    warnings.warn(
        f"{where} {was}, and num_classes is {model.num_classes:,}: params/head is freshly "
        "initialised and has to be trained",
        stacklevel=3,
    )
    key = jax.random.key(0) if key is None else key
    head = initial_values(model, key)["params"]["head"]
    arrays = jax.tree.map(lambda value: np.asarray(value(key)), head)
    return kept | traverse_util.flatten_dict({"params": {"head": arrays}})


def _init_of(model):
    side = model.min_image_size  # variables do not depend on the size: the smallest is quickest
    return lambda key: model.init(key, jnp.zeros((1, side, side, model.in_channels)))
