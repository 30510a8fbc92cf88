"""Steps whose loss or gradients are not finite: left out on the device, where that is asked for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from shunted_jax.tasks.metrics import Mean

BAD_STEPS = "bad_steps"


def skip_bad_steps(train_step: Callable[..., Any], max_bad_steps: int) -> Callable[..., Any]:
    """Returns `train_step`, which leaves the state as it is where its numbers are not finite.

    Only the state's own step and that of the schedule go on: the next batch is another one, and
    its rate that of its step. Such a step does not count in the means, but in the metric
    `bad_steps`, which the host holds against the limit.

    Args:
        train_step: (state, batch, key) -> (state, metrics), with metrics `loss` and `grad_norm`.
        max_bad_steps: 0 returns `train_step` itself: the run then stops at the first such step.
    """
    if not max_bad_steps:
        return train_step

    def guarded_step(state, batch, key):
        new_state, metrics = train_step(state, batch, key)
        fine = jnp.isfinite(metrics["loss"].total) & jnp.isfinite(metrics["grad_norm"].total)
        kept = jax.tree.map(lambda old, new: jnp.where(fine, new, old), state, new_state)
        metrics = jax.tree.map(lambda number: jnp.where(fine, number, 0), metrics)
        bad = Mean(1 - fine.astype(jnp.float32), jnp.float32(1))
        opt_state = jax.tree.map(
            lambda old, new: new if _is_of_schedule(new) else old,
            kept.opt_state,
            new_state.opt_state,
            is_leaf=_is_of_schedule,
        )
        return kept.replace(step=new_state.step, opt_state=opt_state), metrics | {BAD_STEPS: bad}

    return guarded_step


def _is_of_schedule(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)
