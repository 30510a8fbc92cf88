"""The two programs that run on the devices: a training step and an evaluation step.

Both are pure, and know nothing of the mesh: `sharding.py` says where their arguments live. What a
batch holds, and what its loss and score are, the task says.

Statistics and gradients are those of the global batch: batch norm sees all of it, where the
published code normalises each GPU's share on its own. With `accumulate_steps` it sees one of so
many parts of the global batch at a time, of all devices still.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from flax import linen as nn

from shunted_jax.tasks import Task
from shunted_jax.tasks.metrics import Mean, Metrics
from shunted_jax.tasks.task import Batch
from shunted_jax.training.step.bad_steps import skip_bad_steps
from shunted_jax.training.step.gradient_norm import global_norm
from shunted_jax.training.step.layer_decay import is_in_head
from shunted_jax.training.step.state import TrainState


def make_train_step(
    model: nn.Module, tx: optax.GradientTransformation, task: Task
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Returns `train_step(state, batch, key) -> (state, metrics)`: augmentation, then an update.

    `batch` is the task's. `key` is the run's; the step folds its own number into it, so that a
    resumed run draws what the first would have. The metrics are those of `make_update`.
    """
    update = make_update(model, tx, task)

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        of_augmentation, of_dropout = jax.random.split(jax.random.fold_in(key, state.step))
        images, targets = task.prepare(of_augmentation, batch)
        return update(state, images, targets, of_dropout)

    return skip_bad_steps(train_step, task.config.max_bad_steps)


def make_update(
    model: nn.Module, tx: optax.GradientTransformation, task: Task
) -> Callable[[TrainState, jax.Array, Any, jax.Array], tuple[TrainState, Metrics]]:
    """Returns `update(state, images, targets, key) -> (state, metrics)`, with `key` for dropout.

    Images and targets are as the task prepares them. The metrics are those of the task's loss, and
    `grad_norm` (before clipping).
    """
    config = task.config
    gradients = _make_gradients(model, task)

    def update(
        state: TrainState, images: jax.Array, targets: Any, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        grads, batch_stats, metrics = _accumulated(
            gradients, state, images, targets, key, config.accumulate_steps
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema_params=_moved(state.ema_params, params, config.ema_decay),
        )
        return new_state, metrics | {"grad_norm": Mean(global_norm(grads), jnp.float32(1))}

    return update


def _make_gradients(model: nn.Module, task: Task) -> Callable[..., Any]:
    """Returns `gradients(params, batch_stats, images, targets, key)`.

    It gives (gradients, batch statistics, metrics). A frozen backbone computes as in evaluation,
    its statistics and all its paths kept; its gradients are zeros, which XLA does not compute.
    """
    frozen = task.config.optimizer.freeze_backbone

    def freeze(path, leaf):
        return leaf if is_in_head(path) else jax.lax.stop_gradient(leaf)

    def gradients(params, batch_stats, images, targets, key):
        def loss_fn(params):
            outputs, updates = model.apply(
                {
                    "params": jax.tree.map_with_path(freeze, params) if frozen else params,
                    "batch_stats": batch_stats,
                },
                images,
                train=not frozen,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            loss, metrics = task.loss(outputs, targets)
            return loss, (updates["batch_stats"], metrics)

        grads, (new_stats, metrics) = jax.grad(loss_fn, has_aux=True)(params)
        return grads, new_stats, metrics

    return gradients


def _accumulated(gradients, state: TrainState, images, targets, key, parts: int):
    """Returns what `gradients` does, computed one part of the batch after the other.

    The gradients are averaged. The running statistics take in each part's, as they would those of
    as many batches.
    """
    if parts == 1:
        return gradients(state.params, state.batch_stats, images, targets, key)
    # Every part has rows of every device: one device's rows would have the others wait.
    split = jax.tree.map(
        lambda array: rearrange(array, "(batch parts) ... -> parts batch ...", parts=parts),
        (images, targets),
    )

    def add(carry, part):
        total, batch_stats = carry
        number, part_images, part_targets = part
        grads, batch_stats, metrics = gradients(
            state.params, batch_stats, part_images, part_targets, jax.random.fold_in(key, number)
        )
        return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

    start = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats)
    (total, batch_stats), metrics = jax.lax.scan(add, start, (jnp.arange(parts), *split))
    grads = jax.tree.map(lambda leaf: leaf / parts, total)
    return grads, batch_stats, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), metrics)


def _moved(average: Any, params: Any, decay: float | None) -> Any:
    if decay is None:
        return average
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)


def make_eval_step(model: nn.Module, task: Task) -> Callable[[dict[str, Any], Batch], Any]:
    """Returns `eval_step(variables, batch)`: the task's score, in float32 whatever training is in.

    `batch` is the task's for evaluation.
    """
    # GPUs and TPUs round what products of float32 are computed from, unless they are told not to.
    fields = {"dtype": jnp.float32, "precision": "highest"}
    if getattr(model, "compute", None) == "pallas":  # whose kernels compute in bfloat16 alone
        fields["compute"] = "auto"
    float32_model = model.clone(**fields)

    def eval_step(variables: dict[str, Any], batch: Batch) -> Any:
        return task.score(partial(float32_model.apply, variables), batch)

    return eval_step
