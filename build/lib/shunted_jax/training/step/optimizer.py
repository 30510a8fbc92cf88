"""The optimizer and its schedule (the published recipe, by step instead of by epoch)."""

from typing import Any

import jax
import optax

from shunted_jax.config import OptimizerConfig
from shunted_jax.training.step.gradient_norm import clip_by_global_norm
from shunted_jax.training.step.layer_decay import is_in_head, rate_factors


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
    """Returns AdamW with decoupled weight decay, after clipping by global norm if asked for.

    With `config.layer_decay` each layer has a rate of its own. With `config.freeze_backbone` only
    the head changes: other parameters have no moments, and their gradients do not count when
    clipping.
    """
    parts = []
    if config.clip_norm is not None:
        parts.append(clip_by_global_norm(config.clip_norm))
    parts.append(
        optax.adamw(
            learning_rate,
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mask=weight_decay_mask,
        )
    )
    if config.layer_decay != 1:
        # Last, where an update is the rate times something, weight decay included.
        parts.append(_scale_by_layer(config.layer_decay))
    tx = parts[0] if len(parts) == 1 else optax.chain(*parts)
    if not config.freeze_backbone:
        return tx
    return optax.partition({"trained": tx, "frozen": optax.set_to_zero()}, _freezing_labels)


def _scale_by_layer(decay: float) -> optax.GradientTransformation:
    def scale(updates: Any, params: Any) -> Any:
        factors = rate_factors(params, decay)
        return jax.tree.map(lambda update, factor: factor * update, updates, factors)

    return optax.stateless(scale)


def _freezing_labels(params: Any) -> Any:
    return jax.tree.map_with_path(
        lambda path, _: "trained" if is_in_head(path) else "frozen", params
    )
