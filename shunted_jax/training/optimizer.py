"""The optimizer and its schedule (the published recipe, by step instead of by epoch)."""

from typing import Any

import jax
import optax

from shunted_jax.config import OptimizerConfig


def learning_rate_schedule(
    config: OptimizerConfig, *, total_steps: int, steps_per_epoch: float
) -> optax.Schedule:
    """Returns step to learning rate: linear warm-up, then cosine decay.

    Args:
        config: rates, and the warm-up's length in epochs.
        total_steps: where the cosine reaches `config.min_learning_rate`.
        steps_per_epoch: turns epochs to steps.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=config.warmup_learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        decay_steps=total_steps,
        end_value=config.min_learning_rate,
    )


def weight_decay_mask(params: Any) -> Any:
    """Returns True for each tensor of rank 2 and up: kernels decay, norms and biases do not."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def make_optimizer(
    config: OptimizerConfig, learning_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Returns AdamW with decoupled weight decay, after clipping by global norm if asked for."""
    adamw = optax.adamw(
        learning_rate,
        b1=config.beta1,
        b2=config.beta2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        mask=weight_decay_mask,
    )
    if config.clip_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)
