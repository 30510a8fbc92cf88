"""Resizing: Pillow's pixels for evaluation, next to them for training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shunted_jax.data import resizing
from shunted_jax.data.bad_images import BadImageError
from shunted_jax.data.crops import CenterCrop
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.resizing import resize, resize_and_center_crop
from tests.data.images import encode, photograph

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "eval_preprocess.npz")
CASES = sorted(name.removesuffix("/input") for name in GOLDEN if name.endswith("/input"))


@pytest.mark.parametrize("case", CASES)
def test_evaluation_is_the_published_preprocessing(case):
    size = int(case.split("->")[1])
    image = EncodedImage(encode(GOLDEN[f"{case}/input"], "png"))
    # The issue allows one level; Pillow's own arithmetic needs none.
    np.testing.assert_array_equal(CenterCrop(size)(image), GOLDEN[f"{case}/output"])


def test_cases_are_there():
    assert len(CASES) == 4


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (224, 224), (90, 120), (33, 600)])
def test_training_resize_is_pillows_filter(shape):
    image = photograph(*shape)
    expected = Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)
    difference = np.abs(resize(image, (0, 0, *shape), 224).astype(int) - np.asarray(expected))
    assert difference.mean() < 0.3
    assert np.quantile(difference, 0.999) <= 2


@pytest.mark.parametrize("quick", [True, False])
def test_boxes_may_begin_and_end_between_pixels(quick, monkeypatch):
    if not quick:
        monkeypatch.setattr(resizing, "cykooz_resizer", None)
    # A ramp of one level every two pixels: what a box holds is known at every place.
    ramp = np.broadcast_to(np.arange(400)[None, :, None] // 2, (300, 400, 3)).astype(np.uint8)
    found = resize(ramp, (10.5, 20.25, 200.5, 320.0), 80)
    middle_of_pixel = 20.25 + (np.arange(80) + 0.5) * 4
    np.testing.assert_allclose(found[40, :, 0], middle_of_pixel / 2 - 0.5, atol=0.75)
    np.testing.assert_array_equal(found[0], found[-1])
    upright = resize(ramp.transpose(1, 0, 2), (20.25, 10.5, 320.0, 200.5), 80)
    assert np.abs(upright.transpose(1, 0, 2).astype(int) - found).max() <= 1


def test_without_the_quick_resizer_it_is_pillow_itself(monkeypatch):
    assert resizing.cykooz_resizer is not None
    monkeypatch.setattr(resizing, "cykooz_resizer", None)
    image = photograph(90, 120)
    expected = Image.fromarray(image).resize((50, 50), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize(image, (0, 0, 90, 120), 50), expected)


def test_center_crop_of_odd_sizes_rounds_to_even():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    for size, top, left in ((5, 0, 1), (4, 0, 2), (3, 1, 2), (2, 2, 2)):
        cropped = resize_and_center_crop(image, 5, size)
        np.testing.assert_array_equal(cropped, image[top : top + size, left : left + size])


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_what_would_not_fit_into_memory_is_refused_by_its_size(shape):
    size = rf"{shape[1]:,} x {shape[0]:,} pixels.* short side of 256 .*3,932,160,000 of them"
    with pytest.raises(BadImageError, match=size):
        resize_and_center_crop(np.zeros((*shape, 3), np.uint8), 256, 224)


def test_long_images_are_evaluated():
    strip = np.full((2, 3000, 3), 7, np.uint8)
    assert (resize_and_center_crop(strip, 32, 32) == 7).all()
