"""What a classifier's scores add up to, and what is said of them."""

import jax
import numpy as np
import pytest

from shunted_jax.config import Config
from shunted_jax.tasks.classification import Accuracy, Classification
from shunted_jax.tasks.metrics import Mean


def batch_of(labels, predictions, mask, top1, loss):
    count = np.float32(sum(mask))
    rows = {"label": np.int32(labels), "prediction": np.int32(predictions), "mask": np.array(mask)}
    top5 = Mean(count, count)
    return {"loss": Mean(np.float32(loss), count), "top1": Mean(top1, count), "top5": top5}, rows


@pytest.fixture(scope="module")
def scores():
    """Returns those of five images in two batches, one of whose rows was not decoded."""
    task = Classification(Config(), num_classes=3)
    return task.sum_up(
        [
            batch_of([0, 1, 2], [0, 2, 0], [True, True, False], top1=1, loss=0.5),
            batch_of([2, 2, 0], [2, 2, 2], [True, True, True], top1=2, loss=1.75),
        ]
    )


def test_batches_add_up_without_what_is_masked(scores):
    assert scores.examples == 5
    assert scores.indices.tolist() == [0, 1, 3, 4, 5]
    assert scores.labels.tolist() == [0, 1, 2, 2, 0]
    assert scores.predictions.tolist() == [0, 2, 2, 2, 2]
    assert scores.values() == {"loss": 2.25 / 5, "top1": 3 / 5, "top5": 1.0}
    assert scores.texts() == {"top-1": "60.00 % (3 of 5)", "top-5": "100.00 %"}


def test_each_class_is_counted_and_one_without_examples_has_no_accuracy(scores):
    assert scores.per_class(["cat", "dog", "owl", "yak"]) == [
        ("label", "class", "examples", "correct", "top1"),
        (0, "cat", 2, 1, 0.5),
        (1, "dog", 1, 0, 0.0),
        (2, "owl", 2, 2, 1.0),
        (3, "yak", 0, 0, ""),
    ]


def test_large_counts_are_readable():
    top1 = Mean(np.float32(41_234), np.float32(50_000))
    found = Accuracy({"top1": top1, "top5": top1}, *[np.zeros(0, np.int32)] * 3).texts()
    assert found["top-1"] == "82.47 % (41,234 of 50,000)"


def test_batches_are_as_large_as_configured():
    config = Config(batch_size=6, eval_batch_size=4)
    config.data.image_size = 48
    task = Classification(config, num_classes=3)
    image, label = (6, 48, 48, 3), (6,)
    assert {n: (s.shape, s.dtype) for n, s in task.abstract_batch().items()} == {
        "image": (image, np.uint8),
        "label": (label, np.int32),
    }
    evaluated = task.abstract_eval_batch()
    assert evaluated["image"].shape == (4, 48, 48, 3)
    assert (evaluated["mask"].shape, evaluated["mask"].dtype) == ((4,), np.bool_)


def test_of_mixed_images_the_weightier_label_counts():
    logits = np.float32([[4, 0, 0], [0, 4, 0], [0, 0, 4]])
    targets = np.float32([[0.7, 0.3, 0], [0.6, 0.4, 0], [0, 0, 1]])
    loss, metrics = Classification(Config(), num_classes=3).loss(logits, targets)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert float(loss) == pytest.approx(-(targets * log_softmax).sum(axis=1).mean(), rel=1e-6)
    assert metrics["loss"].value == pytest.approx(float(loss), rel=1e-6)
    assert jax.device_get((metrics["top1"].total, metrics["top1"].count)) == (2, 3)
