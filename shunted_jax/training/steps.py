"""The two programs that run on the devices: a training step and an evaluation step.

Both are pure and know nothing of the mesh; `sharding.py` says where their arguments live.
Statistics and gradients are those of the global batch: batch norm sees all of it, where the
published code normalises each GPU's share on its own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from shunted_jax.config import Config
from shunted_jax.models import ShuntedTransformer
from shunted_jax.training.augmentation import augment, normalize
from shunted_jax.training.bad_steps import skip_bad_steps
from shunted_jax.training.metrics import Mean, correct_in_top_k, score
from shunted_jax.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, Mean]


def make_train_step(
    model: ShuntedTransformer, tx: optax.GradientTransformation, config: Config
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Returns `train_step(state, batch, key) -> (state, metrics)`.

    `batch` is {"image": uint8 [batch, height, width, channels], "label": int32 [batch]}. `key` is
    the run's; the step folds its own number into it, so that a resumed run draws what the first
    would have. The metrics are `loss`, `top1` (of mixed images, the weightier label counts) and
    `grad_norm` (before clipping).
    """

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        of_augmentation, of_dropout = jax.random.split(jax.random.fold_in(key, state.step))
        augmented = augment(
            of_augmentation, batch["image"], batch["label"], model.num_classes, config
        )

        def loss_fn(params):
            logits, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                augmented.images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": of_dropout},
            )
            losses = optax.softmax_cross_entropy(logits, augmented.targets)
            return jnp.mean(losses), (logits, updates["batch_stats"])

        (loss, (logits, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        count = jnp.float32(len(logits))
        weightiest = jnp.argmax(augmented.targets, axis=-1)
        correct = jnp.sum(correct_in_top_k(logits, weightiest, 1), dtype=jnp.float32)
        metrics = {
            "loss": Mean(loss * count, count),
            "top1": Mean(correct, count),
            "grad_norm": Mean(optax.tree.norm(grads), jnp.float32(1)),
        }
        return new_state, metrics

    return skip_bad_steps(train_step, config.max_bad_steps)


def make_eval_step(
    model: ShuntedTransformer, config: Config
) -> Callable[[TrainState, Batch], tuple[Metrics, Batch]]:
    """Returns `eval_step(state, batch) -> (metrics, rows)`, in float32 whatever training is in.

    `batch` has a `mask`, bool [batch], besides. The metrics are `loss`, `top1` and `top5` over the
    real examples; the rows are {"label", "prediction"}, int32 [batch], and the mask.
    """
    float32_model = model.clone(dtype=jnp.float32)

    def eval_step(state: TrainState, batch: Batch) -> tuple[Metrics, Batch]:
        images = normalize(batch["image"], config.data.mean, config.data.std)
        logits = float32_model.apply(state.variables, images)
        metrics = score(logits, batch["label"], batch["mask"])
        prediction = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        rows = {"label": batch["label"], "prediction": prediction, "mask": batch["mask"]}
        return metrics, rows

    return eval_step
