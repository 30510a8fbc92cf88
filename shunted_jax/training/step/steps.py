"""The two programs that run on the devices: a training step and an evaluation step.

Both are pure and know nothing of the mesh; `sharding.py` says where their arguments live.
Statistics and gradients are those of the global batch: batch norm sees all of it, where the
published code normalises each GPU's share on its own. With `accumulate_steps` it sees one of so
many parts of the global batch at a time, of all devices still.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from einops import rearrange

from shunted_jax.augment.augmentation import Augmented, augment, normalize
from shunted_jax.config import Config
from shunted_jax.models import ShuntedTransformer
from shunted_jax.training.step.bad_steps import skip_bad_steps
from shunted_jax.training.step.layer_decay import is_in_head
from shunted_jax.training.step.metrics import Mean, correct_in_top_k, score
from shunted_jax.training.step.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, Mean]


def make_train_step(
    model: ShuntedTransformer, tx: optax.GradientTransformation, config: Config
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Returns `train_step(state, batch, key) -> (state, metrics)`: augmentation, then an update.

    `batch` is {"image": uint8 [batch, height, width, channels], "label": int32 [batch]}. `key` is
    the run's; the step folds its own number into it, so that a resumed run draws what the first
    would have. The metrics are those of `make_update`.
    """
    update = make_update(model, tx, config)

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        of_augmentation, of_dropout = jax.random.split(jax.random.fold_in(key, state.step))
        augmented = augment(
            of_augmentation, batch["image"], batch["label"], model.num_classes, config
        )
        return update(state, augmented, of_dropout)

    return skip_bad_steps(train_step, config.max_bad_steps)


def make_update(
    model: ShuntedTransformer, tx: optax.GradientTransformation, config: Config
) -> Callable[[TrainState, Augmented, jax.Array], tuple[TrainState, Metrics]]:
    """Returns `update(state, augmented, key) -> (state, metrics)`, with `key` for dropout.

    The metrics are `loss`, `top1` (of mixed images, the weightier label counts) and `grad_norm`
    (before clipping).
    """
    gradients = _make_gradients(model, config)

    def update(
        state: TrainState, augmented: Augmented, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        images, targets = augmented.images, augmented.targets
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
        return new_state, metrics | {"grad_norm": Mean(optax.tree.norm(grads), jnp.float32(1))}

    return update


def _make_gradients(model: ShuntedTransformer, config: Config) -> Callable[..., Any]:
    """Returns `gradients(params, batch_stats, images, targets, key)`.

    It gives (gradients, batch statistics, metrics). A frozen backbone computes as in evaluation,
    its statistics and all its paths kept; its gradients are zeros, which XLA does not compute.
    """
    frozen = config.optimizer.freeze_backbone

    def freeze(path, leaf):
        return leaf if is_in_head(path) else jax.lax.stop_gradient(leaf)

    def gradients(params, batch_stats, images, targets, key):
        def loss_fn(params):
            logits, updates = model.apply(
                {
                    "params": jax.tree.map_with_path(freeze, params) if frozen else params,
                    "batch_stats": batch_stats,
                },
                images,
                train=not frozen,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            losses = optax.softmax_cross_entropy(logits, targets)
            return jnp.mean(losses), (logits, updates["batch_stats"])

        (loss, (logits, new_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        count = jnp.float32(len(logits))
        weightiest = jnp.argmax(targets, axis=-1)
        correct = jnp.sum(correct_in_top_k(logits, weightiest, 1), dtype=jnp.float32)
        return grads, new_stats, {"loss": Mean(loss * count, count), "top1": Mean(correct, count)}

    return gradients


def _accumulated(gradients, state: TrainState, images, targets, key, parts: int):
    """Returns what `gradients` does, computed one part of the batch after the other.

    The gradients are averaged. The running statistics take in each part's, as they would those of
    as many batches.
    """
    if parts == 1:
        return gradients(state.params, state.batch_stats, images, targets, key)
    # Every part has rows of every device: one device's rows would have the others wait.
    split = [
        rearrange(array, "(batch parts) ... -> parts batch ...", parts=parts)
        for array in (images, targets)
    ]

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


def make_eval_step(
    model: ShuntedTransformer, config: Config
) -> Callable[[dict[str, Any], Batch], tuple[Metrics, Batch]]:
    """Returns `eval_step(variables, batch) -> (metrics, rows)`, in float32 whatever training is in.

    `batch` has a `mask`, bool [batch], besides. The metrics are `loss`, `top1` and `top5` over the
    real examples; the rows are {"label", "prediction"}, int32 [batch], and the mask.
    """
    # The kernels compute in bfloat16 alone.
    compute = "auto" if model.compute == "pallas" else model.compute
    float32_model = model.clone(dtype=jnp.float32, compute=compute)

    def eval_step(variables: dict[str, Any], batch: Batch) -> tuple[Metrics, Batch]:
        images = normalize(batch["image"], config.data.mean, config.data.std)
        logits = float32_model.apply(variables, images)
        metrics = score(logits, batch["label"], batch["mask"])
        prediction = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        rows = {"label": batch["label"], "prediction": prediction, "mask": batch["mask"]}
        return metrics, rows

    return eval_step
