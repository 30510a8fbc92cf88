"""Random crops follow their formulas, whatever the image's size."""

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from shunted_jax.data.crops import CenterCrop, PaddedCrop, RandomResizedCrop
from shunted_jax.data.decoding import EncodedImage
from tests.data.images import encode, photograph


def rng(seed=0):
    return np.random.default_rng(seed)


def boxes(crop, height, width, count, seed=0):
    generator = rng(seed)
    return np.array([crop.draw_box(height, width, generator) for _ in range(count)]).T


def test_boxes_are_uniform_in_area_log_aspect_and_place():
    # So small that every one fits: nothing is drawn again, which would bend the distributions.
    crop = RandomResizedCrop(224, area=(0.08, 0.5))
    top, left, height, width = boxes(crop, 4000, 4000, 4000)
    area = height * width / 4000**2
    assert stats.kstest(area, stats.uniform(0.08, 0.42).cdf).pvalue > 0.01
    limits = np.log([3 / 4, 4 / 3])
    log_aspect = np.log(width / height)
    assert stats.kstest(log_aspect, stats.uniform(limits[0], np.ptp(limits)).cdf).pvalue > 0.01
    assert stats.kstest(top / (4000 - height), "uniform").pvalue > 0.01
    assert stats.kstest(left / (4000 - width), "uniform").pvalue > 0.01
    assert abs(stats.spearmanr(area, log_aspect).statistic) < 0.05
    place = stats.spearmanr(top / (4000 - height), left / (4000 - width))
    assert abs(place.statistic) < 0.05


def test_the_whole_range_is_the_formula_given_that_the_box_fits():
    _, _, height, width = boxes(RandomResizedCrop(224), 375, 500, 4000)
    generator = rng(1)
    area = 375 * 500 * generator.uniform(0.08, 1, 40_000)
    aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), 40_000))
    expected_width, expected_height = np.sqrt(area * aspect), np.sqrt(area / aspect)
    fits = (expected_width < 500) & (expected_height < 375)
    assert stats.ks_2samp(height, expected_height[fits]).pvalue > 0.01
    assert stats.ks_2samp(width, expected_width[fits]).pvalue > 0.01


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (7, 5), (32, 32), (50, 400)])
def test_boxes_lie_inside_images_of_any_shape(shape):
    top, left, height, width = boxes(RandomResizedCrop(32), *shape, 200)
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= shape[0]).all()
    assert (left + width <= shape[1]).all()


def test_very_long_images_give_their_middle():
    box = RandomResizedCrop(32).draw_box(10, 1000, rng())
    assert box == (0, 493, 10, 13)
    assert RandomResizedCrop(32).draw_box(1000, 9, rng()) == (494, 0, 12, 9)


@pytest.mark.parametrize("shape", [(40, 30), (400, 600), (1100, 1600)])
def test_crop_is_the_box_resized(shape, monkeypatch):
    factors = []
    decode = EncodedImage.decode
    monkeypatch.setattr(
        EncodedImage,
        "decode",
        lambda image, reduce: factors.append(reduce) or decode(image, reduce),
    )
    image = photograph(*shape)
    crop = RandomResizedCrop(64)
    for seed in range(6):
        found = crop(EncodedImage(encode(image, quality=100, subsampling=0)), rng(seed))
        top, left, height, width = crop.draw_box(*shape, rng(seed))
        box = Image.fromarray(image[top : top + height, left : left + width])
        expected = np.asarray(box.resize((64, 64), Image.Resampling.BICUBIC))
        assert found.shape == (64, 64, 3)
        assert np.mean(np.abs(found.astype(int) - expected)) < 1
    # Larger images are decoded at a fraction of their size.
    assert max(factors) == {40: 1, 400: 2, 1100: 8}[shape[0]]


def test_padded_crop_shifts_by_every_offset_evenly():
    image = rng().integers(1, 256, (8, 8, 3), dtype=np.uint8)
    encoded = EncodedImage(encode(image, "png"))
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    crops = {
        padded[top : top + 8, left : left + 8].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    crop, generator, counts = PaddedCrop(8, padding=2), rng(), np.zeros((5, 5))
    for _ in range(5000):
        counts[crops[crop(encoded, generator).tobytes()]] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 0.001
    np.testing.assert_array_equal(PaddedCrop(8, padding=0)(encoded, generator), image)


def test_padded_crop_brings_other_sizes_to_its_own():
    image = photograph(50, 70)
    found = PaddedCrop(32, padding=0)(EncodedImage(encode(image, "png")), rng())
    resized = Image.fromarray(image).resize((44, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found, np.asarray(resized)[:, 6:38])


@pytest.mark.parametrize("size", [32, 224, 288, 384])
def test_center_crop_keeps_the_published_share(size, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "shunted_jax.data.crops.resize_and_center_crop", lambda *given: asked.append(given[1:])
    )
    CenterCrop(size)(EncodedImage(encode(photograph(60, 60), "png")))
    CenterCrop(size, crop_pct=1.0)(EncodedImage(encode(photograph(60, 60), "png")))
    assert asked == [(size * 256 // 224, size), (size, size)]
