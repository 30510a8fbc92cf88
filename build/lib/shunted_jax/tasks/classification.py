"""One label an image: the task of the paper's first table."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from shunted_jax.augment.normalizing import normalize
from shunted_jax.augment.training_batch import augment
from shunted_jax.config import Config
from shunted_jax.data.pipeline import Batches, eval_batches, train_batches
from shunted_jax.data.recipe import make_eval_transform
from shunted_jax.data.sources import Source
from shunted_jax.models import ShuntedTransformer
from shunted_jax.reporting.pictures import plot_predictions
from shunted_jax.tasks.metrics import Mean, Metrics, correct_in_top_k, score
from shunted_jax.tasks.network import make_classifier
from shunted_jax.tasks.task import Batch


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """What a classifier is worth on the evaluation split.

    Attributes:
        metrics: `loss`, `top1` and `top5`, over every example once.
        indices: int64 [examples], which of the split they are, in its order: all of it but for
            images that could not be decoded.
        labels: int32 [examples].
        predictions: int32 [examples].
    """

    metrics: Metrics
    indices: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray

    @property
    def examples(self) -> int:
        """How many images counted."""
        return len(self.indices)

    def values(self) -> dict[str, float]:
        """Returns the means by name."""
        return {name: mean.value for name, mean in self.metrics.items()}

    def texts(self) -> dict[str, str]:
        """Returns top-1 with its count, as in `99.17 % (357 of 360)`, and top-5."""
        top1, top5 = self.metrics["top1"], self.metrics["top5"]
        counted = f"({int(top1.total):,} of {int(top1.count):,})"
        return {
            "top-1": f"{100 * top1.value:.2f} % {counted}",
            "top-5": f"{100 * top5.value:.2f} %",
        }

    def per_class(self, class_names: Sequence[str]) -> list[tuple]:
        """Returns a row for each class, in the labels' order, under one of the columns' names.

        The accuracy of a class without examples is an empty text.
        """
        count = len(class_names)
        examples = np.bincount(self.labels, minlength=count).tolist()
        right = self.labels[self.labels == self.predictions]
        correct = np.bincount(right, minlength=count).tolist()
        rows = [
            (label, name, all_of, right_of, right_of / all_of if all_of else "")
            for label, (name, all_of, right_of) in enumerate(
                zip(class_names, examples, correct, strict=True)
            )
        ]
        return [("label", "class", "examples", "correct", "top1"), *rows]


@dataclasses.dataclass(frozen=True)
class Classification:
    """The task of telling classes apart; see `task.Task` for what each method is asked for.

    Attributes:
        config: of the run.
        num_classes: how many there are.
    """

    config: Config
    num_classes: int
    best_metric: ClassVar[str] = "top1"
    curves: ClassVar[Mapping[str, str]] = {"top1": "top-1", "top5": "top-5"}

    def make_model(self) -> ShuntedTransformer:
        """Returns the classifier that `config.model` describes."""
        return make_classifier(self.config, self.num_classes)

    def train_batches(self, source: Source, start_step: int) -> Batches:
        """Returns shuffled batches of {"image", "label"}."""
        return train_batches(source, self.config, start_step=start_step, **_place())

    def eval_batches(self, source: Source) -> Batches:
        """Returns batches of {"image", "label", "mask"}, the last one padded."""
        return eval_batches(source, self.config, **_place())

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns {"image": uint8 [batch, size, size, channels], "label": int32 [batch]}."""
        return self._abstract_batch(self.config.batch_size)

    def abstract_eval_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the same of an evaluation, with "mask": bool [batch], False for padding."""
        size = self.config.eval_batch_size
        return self._abstract_batch(size) | {"mask": jax.ShapeDtypeStruct((size,), jnp.bool_)}

    def _abstract_batch(self, size: int) -> dict[str, jax.ShapeDtypeStruct]:
        side, channels = self.config.data.image_size, self.config.data.channels
        return {
            "image": jax.ShapeDtypeStruct((size, side, side, channels), jnp.uint8),
            "label": jax.ShapeDtypeStruct((size,), jnp.int32),
        }

    def prepare(self, key: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Returns augmented images, and targets: float32 [batch, classes], distributions."""
        augmented = augment(key, batch["image"], batch["label"], self.num_classes, self.config)
        return augmented.images, augmented.targets

    def loss(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, Metrics]:
        """Returns the cross-entropy, and `top1`: of mixed images, the weightier label counts."""
        loss = jnp.mean(optax.softmax_cross_entropy(outputs, targets))
        count = jnp.float32(len(outputs))
        weightiest = jnp.argmax(targets, axis=-1)
        correct = jnp.sum(correct_in_top_k(outputs, weightiest, 1), dtype=jnp.float32)
        return loss, {"loss": Mean(loss * count, count), "top1": Mean(correct, count)}

    def score(self, apply: Callable[[jax.Array], jax.Array], batch: Batch) -> tuple[Metrics, Batch]:
        """Returns `loss`, `top1` and `top5` over the real examples, and each row's prediction.

        The rows are {"label", "prediction"}, int32 [batch], and the mask.
        """
        data = self.config.data
        logits = apply(normalize(batch["image"], data.mean, data.std))
        metrics = score(logits, batch["label"], batch["mask"])
        prediction = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        rows = {"label": batch["label"], "prediction": prediction, "mask": batch["mask"]}
        return metrics, rows

    def sum_up(self, outputs: Sequence[tuple[Metrics, dict[str, np.ndarray]]]) -> Accuracy:
        """Returns the sums of what `score` returned, padding left out."""
        all_metrics, all_rows = zip(*outputs, strict=True)
        totals = all_metrics[0]
        for metrics in all_metrics[1:]:
            totals = {name: totals[name] + mean for name, mean in metrics.items()}
        rows = {name: np.concatenate([row[name] for row in all_rows]) for name in all_rows[0]}
        indices = np.flatnonzero(rows["mask"])
        return Accuracy(totals, indices, rows["label"][indices], rows["prediction"][indices])

    def plot_predictions(self, scores: Accuracy, source: Source, path: epath.Path) -> None:
        """Writes some test images with their predictions, the wrong ones first."""
        transform = make_eval_transform(self.config)

        def image_of(index: int) -> np.ndarray:
            return transform(source.examples[scores.indices[index]]["image"])

        plot_predictions(image_of, scores.labels, scores.predictions, source.class_names, path)


def _place() -> dict[str, int]:
    """Returns which of the hosts this is, as the data pipeline, which knows no JAX, is told."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}
