"""Data sets of a few images, and images of a few pixels."""

import numpy as np
import pytest

from shunted_jax.data.pipeline import eval_batches, train_batches
from shunted_jax.data.sources import Source
from tests.data.images import encode, photograph
from tests.support.tiny import tiny_config

RECIPE = {"crop": "random_resized", "rand_augment_layers": 2, "flip_prob": 0.5}


def source_of(images):
    encoded = [encode(image, "png") for image in images]
    examples = [{"image": file, "label": label} for label, file in enumerate(encoded)]
    return Source(examples, tuple("abcdefgh"[: len(images)]), "few")


def test_less_images_than_a_batch_has():
    source = source_of([photograph(40, 40, seed) for seed in range(3)])
    config = tiny_config(None, batch_size=8, eval_batch_size=8)
    batches = train_batches(source, config)
    labels = np.concatenate([next(batches)["label"] for _ in range(3)])
    batches.close()
    for epoch in labels.reshape(8, 3):
        assert sorted(epoch) == [0, 1, 2]  # a batch holds the end of one and more of the next
    (batch,) = eval_batches(source, config)
    assert batch["label"][batch["mask"]].tolist() == [0, 1, 2]
    assert batch["image"].shape == (8, 32, 32, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 900)])
def test_images_of_a_row_or_a_pixel(shape):
    source = source_of([np.full((*shape, 3), 200, np.uint8)] * 2)
    config = tiny_config(None, batch_size=2, eval_batch_size=2, augment=RECIPE)
    for batches in (train_batches(source, config), eval_batches(source, config)):
        assert next(batches)["image"].shape == (2, 32, 32, 3)
        batches.close()
