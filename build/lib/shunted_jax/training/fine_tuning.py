"""Training from parameters that were trained before: converted weights, or another run's."""

import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp

from shunted_jax.models import ShuntedTransformer
from shunted_jax.pretrained import read_weights_for
from shunted_jax.training.devices.sharding import put_variables
from shunted_jax.training.step.state import TrainState

logger = logging.getLogger(__name__)


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
