"""What happens to one image."""

import io

import numpy as np
import pytest
from PIL import Image

from shunted_jax.data.transforms import (
    EvalTransform,
    TrainTransform,
    decode,
    random_flip,
    random_padded_crop,
)

IMAGE = np.random.default_rng(0).integers(1, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image, mode="RGB"):
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, format="png")
    return buffer.getvalue()


def test_decode_gives_rgb_whatever_the_file_holds():
    np.testing.assert_array_equal(decode(encoded(IMAGE)), IMAGE)
    for mode in ("L", "P", "1"):
        assert np.asarray(decode(encoded(IMAGE, mode))).shape == (6, 9, 3)


def test_padded_crop_shifts_by_every_offset_evenly():
    rng = np.random.default_rng(0)
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)))
    crops = {
        padded[top : top + 6, left : left + 9].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    counts = np.zeros((5, 5))
    for _ in range(5000):
        counts[crops[random_padded_crop(IMAGE, 2, rng).tobytes()]] += 1
    chi_square = np.sum((counts - 200) ** 2 / 200)
    assert chi_square < 51.2  # the 99.9 % point with 24 degrees of freedom
    np.testing.assert_array_equal(random_padded_crop(IMAGE, 0, rng), IMAGE)


def test_flip_mirrors_at_its_probability():
    rng = np.random.default_rng(0)
    flipped = [np.array_equal(random_flip(IMAGE, 0.3, rng), IMAGE[:, ::-1]) for _ in range(2000)]
    assert abs(np.mean(flipped) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    np.testing.assert_array_equal(random_flip(IMAGE, 0.0, rng), IMAGE)
    np.testing.assert_array_equal(random_flip(IMAGE, 1.0, rng), IMAGE[:, ::-1])


@pytest.mark.parametrize("size", [32, 48])
def test_evaluation_is_the_resized_image(size):
    row = EvalTransform(size).map({"image": encoded(IMAGE), "label": 4})
    expected = Image.fromarray(IMAGE).resize((size, size), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(row["image"], expected)
    assert row["image"].dtype == np.uint8
    assert row["label"] == 4


def test_training_without_randomness_is_evaluation():
    example = {"image": encoded(IMAGE), "label": 4}
    row = TrainTransform(32).random_map(example, np.random.default_rng(0))
    np.testing.assert_array_equal(row["image"], EvalTransform(32).map(example)["image"])
