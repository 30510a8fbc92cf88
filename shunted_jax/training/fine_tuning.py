"""Training from parameters that were trained before: converted weights, or another run's."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from shunted_jax.checkpoints import Weights
from shunted_jax.models import ShuntedTransformer
from shunted_jax.pretrained import check_source, read_weights_for
from shunted_jax.training.classes import are_all, examples, outputs_of, with_outputs
from shunted_jax.training.devices.sharding import put_variables
from shunted_jax.training.step.state import TrainState

logger = logging.getLogger(__name__)


def initialize_from(
    path: str,
    model: ShuntedTransformer,
    class_names: Sequence[str],
    init: Callable[[jax.Array], TrainState],
) -> Callable[[jax.Array], TrainState]:
    """Returns an `init` whose parameters are those of a checkpoint, read when it is called.

    Not before: a run that goes on from a checkpoint of its own has no need of them any more.

    Args:
        path: converted weights, a run's folder, whose best checkpoint is taken, or a hub's
            address.
        model: the network to train.
        class_names: of the data. The checkpoint's head is kept where its classes have the same
            names, and its outputs are put into their order. Otherwise the head is freshly
            initialised. Where the checkpoint has no names, their number decides.
        init: key -> state, freshly initialised in its shards.

    Raises:
        UserError: no checkpoint can lie at `path`.
    """
    check_source(path)  # a name that cannot be read shows before anything is compiled

    def init_from_weights(key: jax.Array) -> TrainState:
        weights, saved_classes = read_weights_for(model, path)
        fresh = init(key)
        params, about_head = _with_head(weights, saved_classes, class_names, fresh.params["head"])
        logger.info("starting from %s, with %s", path, about_head)
        params = put_variables(params, fresh.params)
        return fresh.replace(
            params=params,
            batch_stats=put_variables(weights.batch_stats, fresh.batch_stats),
            ema_params=None if fresh.ema_params is None else jax.tree.map(jnp.copy, params),
        )

    return init_from_weights


def _with_head(
    weights: Weights, saved_classes: int, names: Sequence[str], fresh_head: Any
) -> tuple[dict[str, Any], str]:
    """Returns the parameters with a head for these classes, and what to tell of it."""
    params, saved = weights.params, weights.meta.class_names
    if saved is None and saved_classes == len(names):
        told = f"its head of {saved_classes:,} classes, whose names it does not have"
        return params, f"{told}: labels are taken to mean the same"
    outputs = outputs_of(names, saved or ())
    if are_all(outputs, saved_classes):
        told = f"its head of {saved_classes:,} classes"
        if outputs == sorted(outputs):
            return params, told
        return with_outputs(params, outputs), f"{told}, put into the order of the data's"
    told = f"a new head for {len(names):,} classes ({examples(names, saved or ())})"
    if saved_classes:
        its_own = f"{saved_classes:,}" + (f" ({examples(saved, names)})" if saved else "")
        told += f": they are not the {its_own} that it tells apart"
    return {**params, "head": fresh_head}, told
