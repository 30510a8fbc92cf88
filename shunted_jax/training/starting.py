"""Starting from parameters that were trained before: converted weights, or another run's."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from shunted_jax.checkpoints import Weights, read_weights
from shunted_jax.errors import UserError
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.fields import STAGE_FIELDS, from_json
from shunted_jax.models.registry import VARIANTS
from shunted_jax.models.variables import abstract_variables, differing_shapes
from shunted_jax.training.step.state import TrainState

logger = logging.getLogger(__name__)

# Fields that say what the parameters mean; some, as `num_heads`, leave no trace in their shapes.
_ARCHITECTURE = (*STAGE_FIELDS, "num_stem_convs", "in_channels", "qkv_bias")


def initialize_from(
    path: str, model: ShuntedTransformer, init: Callable[[jax.Array], TrainState]
) -> Callable[[jax.Array], TrainState]:
    """Returns an `init` whose parameters are those of a checkpoint, read when it is called.

    Not before: a run that goes on from a checkpoint of its own has no need of them any more.

    Args:
        path: converted weights, or a run's folder, whose best checkpoint is taken.
        model: the network to train; its head is freshly initialised where the checkpoint's has
            another number of classes, or none.
        init: key -> state, freshly initialised in its shards.
    """

    def init_from_weights(key: jax.Array) -> TrainState:
        weights, saved_classes = read_weights_for(model, path)
        fresh = init(key)
        params = dict(weights.params)
        if saved_classes == model.num_classes:
            logger.info("starting from %s, with its head of %d classes", path, saved_classes)
        else:
            logger.info("starting from %s, with a new head for %d classes", path, model.num_classes)
            params["head"] = fresh.params["head"]
        params = put_variables(params, fresh.params)
        return fresh.replace(
            params=params,
            batch_stats=put_variables(weights.batch_stats, fresh.batch_stats),
            ema_params=None if fresh.ema_params is None else jax.tree.map(jnp.copy, params),
        )

    return init_from_weights


def read_weights_for(
    model: ShuntedTransformer, path: str, step: int | str = "best"
) -> tuple[Weights, int]:
    """Returns a checkpoint whose backbone is `model`'s, and how many classes its own head has.

    Raises:
        UserError: there is no checkpoint, or it is of another network.
    """
    weights = read_weights(path, step)
    saved = from_json(weights.meta["model"])
    there = ShuntedTransformer(**saved)
    if differing := _differing(there, model):
        lines = [
            f"{name}: {getattr(there, name)} there, {getattr(model, name)} here"
            for name in differing
        ]
        raise UserError(
            f"{path} holds another network than config.model.name builds"
            f"{_variant_hint(there)}:\n  " + "\n  ".join(lines)
        )
    _check_shapes(weights, there, path)
    return weights, there.num_classes


def put_variables(variables: dict[str, Any], abstract: dict[str, Any]) -> dict[str, Any]:
    """Returns numpy arrays as global ones, each device given its shard alone.

    Args:
        variables: nested dicts of numpy arrays; a `jax.Array` among them stays as it is.
        abstract: leaves with a shape, a dtype and a sharding in the same places.
    """

    def put(leaf: np.ndarray | jax.Array, wanted: Any) -> jax.Array:
        if isinstance(leaf, jax.Array):
            return leaf
        leaf = np.asarray(leaf).astype(wanted.dtype, copy=False)
        return jax.make_array_from_callback(wanted.shape, wanted.sharding, leaf.__getitem__)

    return jax.tree.map(put, variables, abstract)


def _differing(one: ShuntedTransformer, other: ShuntedTransformer) -> list[str]:
    return [name for name in _ARCHITECTURE if getattr(one, name) != getattr(other, name)]


def _variant_hint(model: ShuntedTransformer) -> str:
    for name, row in VARIANTS.items():
        if not _differing(model, ShuntedTransformer(**row, in_channels=model.in_channels)):
            return f" (take --config.model.name={name})"
    return ""


def _check_shapes(weights: Weights, model: ShuntedTransformer, path: str) -> None:
    has = {"params": weights.params, "batch_stats": weights.batch_stats}
    differing = differing_shapes(traverse_util.flatten_dict(has), abstract_variables(model))
    if differing:
        lines = [f"{name}: {there} there, {wants} wanted" for name, there, wants in differing]
        raise UserError(
            f"{path} does not hold the network that it says it does; convert it again:\n  "
            + "\n  ".join(lines)
        )
