"""Each operation against measured outputs and Pillow, and what RandAugment draws."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from shunted_jax.data.rand_augment import OPS, RandAugment, apply
from shunted_jax.errors import UserError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "randaugment.npz")
FILL = (124, 116, 104)
INTERPOLATED = ("ShearX", "ShearY", "TranslateX", "TranslateY")
EXACT = tuple(op for op in OPS if op not in INTERPOLATED)
SIZES = [(1, 1), (2, 3), (1, 9), (10, 2), (3, 3), (40, 10), (61, 47)]


def pillow(image, op, level, sign):
    """What Pillow makes of it, by the definitions that come with the measured outputs."""
    image = Image.fromarray(image)
    width, height = image.size
    share = level / 10
    if op in ("Color", "Contrast", "Brightness", "Sharpness"):
        result = getattr(ImageEnhance, op)(image).enhance(max(0.1, 1 + sign * 0.9 * share))
    elif op in INTERPOLATED:
        slope, shift = sign * 0.3 * share, sign * 0.45 * share
        matrix = {
            "ShearX": (1, slope, 0, 0, 1, 0),
            "ShearY": (1, 0, 0, slope, 1, 0),
            "TranslateX": (1, 0, shift * width, 0, 1, 0),
            "TranslateY": (1, 0, 0, 0, 1, shift * height),
        }[op]
        affine, bicubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
        result = image.transform(image.size, affine, matrix, bicubic, fillcolor=FILL)
    elif op == "Rotate":
        result = image.rotate(sign * 30 * share, Image.Resampling.BICUBIC, fillcolor=FILL)
    elif op == "Posterize":
        bits = 4 - int(4 * share)
        # Pillow has come to refuse 0 bits, which used to leave nothing.
        result = ImageOps.posterize(image, bits) if bits else Image.new("RGB", image.size)
    elif op == "Solarize":
        result = ImageOps.solarize(image, 256 - int(256 * share))
    elif op == "SolarizeAdd":
        addend = min(128, int(110 * share))
        result = image.point([min(v + addend, 255) if v < 128 else v for v in range(256)] * 3)
    else:
        result = getattr(ImageOps, op.lower())(image)
    return np.asarray(result)


def images(size, rng):
    """Yields noise, tinted noise, extremes, a smooth image, a narrow range and a single colour."""
    yield rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    yield rng.integers(0, 256, (*size, 3), dtype=np.uint8) // np.array([1, 2, 3], np.uint8)
    yield rng.choice(np.array([0, 1, 254, 255], np.uint8), (*size, 3))
    coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    yield np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))
    yield rng.integers(90, 131, (*size, 3), dtype=np.uint8)
    yield np.full((*size, 3), rng.integers(0, 256, 3), np.uint8)


def difference(image, op, level, sign):
    result = apply(image, op, level, sign)
    assert result.dtype == np.uint8
    return np.abs(result.astype(int) - pillow(image, op, level, sign))


@pytest.mark.parametrize("key", [key for key in GOLDEN if key != "image"])
def test_measured_outputs(key):
    op, level, sign = key.split("/")
    result = apply(GOLDEN["image"], op, float(level), sign)
    if op in INTERPOLATED:
        # A value in 250 where the offset makes whole numbers of exact sums, far fewer elsewhere.
        errors = np.abs(result.astype(int) - GOLDEN[key])
        assert errors.max() <= 1
        assert errors.mean() < 4e-3
    else:
        np.testing.assert_array_equal(result, GOLDEN[key])


@pytest.mark.parametrize("op", EXACT)
def test_equals_pillow(op):
    rng = np.random.default_rng(0)
    for size in SIZES:
        for image in images(size, rng):
            for level in (0.0, 10.0, *rng.integers(1, 10, 3), *rng.uniform(0, 10, 6)):
                for sign in (1, -1):
                    assert not difference(image, op, level, sign).any(), (size, level, sign)


@pytest.mark.parametrize("op", INTERPOLATED)
def test_follows_pillow_to_the_last_bit_of_nearly_all_values(op):
    rng = np.random.default_rng(0)
    errors = []
    for size in SIZES:
        for image in images(size, rng):
            for level in (0.0, 10.0, *rng.uniform(0, 10, 8)):
                for sign in (1, -1):
                    errors.append(difference(image, op, level, sign).ravel())
                    assert errors[-1].max() <= 1, (size, level, sign)
    assert np.mean(np.concatenate(errors)) < 1e-3


def test_directions_and_fill():
    image = np.full((20, 20, 3), 200, np.uint8)
    image[8:12, 8:12] = 0
    rows, columns = np.nonzero(apply(image, "TranslateX", 5.0, "+")[..., 0] < 100)
    assert columns.mean() < 9
    assert rows.mean() == 9.5
    rows, _ = np.nonzero(apply(image, "TranslateY", 5.0, "-")[..., 0] < 60)
    assert rows.mean() > 10
    filled = apply(image, "TranslateX", 10.0, 1, fill=(1, 2, 3))
    np.testing.assert_array_equal(filled[:, 11:], np.broadcast_to((1, 2, 3), (20, 9, 3)))
    np.testing.assert_array_equal(apply(image, "Rotate", 9.0, 1)[0, 0], FILL)


@pytest.mark.parametrize("op", OPS)
def test_any_layout_in_and_input_kept(op):
    image = GOLDEN["image"]
    before = image.copy()
    image.setflags(write=False)
    views = [image[:, ::-1], image[::-1, ::2], image.swapaxes(0, 1), image[5:31, 7:50]]
    for view in [image, *views]:
        expected = apply(view.copy(), op, 8.7, -1)
        result = apply(view, op, 8.7, -1)
        np.testing.assert_array_equal(result, expected)
        assert result.shape == view.shape
        assert result.flags.c_contiguous
    np.testing.assert_array_equal(image, before)


def test_errors_name_what_is_near():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(UserError, match="no operation 'Sharpen'; did you mean 'Sharpness'"):
        apply(image, "Sharpen", 5.0, 1)
    for level in (-0.1, 10.1, float("nan")):
        with pytest.raises(UserError, match=f"level of Invert is {level}, .* from 0 to 10"):
            apply(image, "Invert", level, 1)
    for sign in (0, 2, "plus"):
        with pytest.raises(UserError, match=f"sign of Invert is {sign!r}: take 1 or -1"):
            apply(image, "Invert", 5.0, sign)


def test_calling_applies_the_draw():
    augment = RandAugment(num_layers=3, probability=0.8, fill=(9, 8, 7))
    augment = pickle.loads(pickle.dumps(augment))
    for seed in range(30):
        expected = GOLDEN["image"]
        for op, level, sign in augment.draw(np.random.default_rng(seed)):
            expected = apply(expected, op, level, sign, fill=(9, 8, 7))
        result = augment(GOLDEN["image"], np.random.default_rng(seed))
        np.testing.assert_array_equal(result, expected)


def test_draws_every_operation_evenly_and_layers_independently():
    augment = RandAugment(probability=1.0)
    rng = np.random.default_rng(0)
    count = 22_500
    draws = [augment.draw(rng) for _ in range(count)]
    pairs = np.zeros((15, 15))
    for (first, _, _), (second, _, _) in draws:
        pairs[OPS.index(first), OPS.index(second)] += 1
    # Chi-square's 99.9 % points with 224 and 14 degrees of freedom.
    assert np.sum((pairs - 100) ** 2 / 100) < 295.2
    for once in (pairs.sum(axis=0), pairs.sum(axis=1)):
        assert np.sum((once - 1500) ** 2 / 1500) < 36.2
    values = np.array([[value for _, *rest in layers for value in rest] for layers in draws])
    assert np.abs(values[:, 1::2].mean(axis=0)).max() < 4 / np.sqrt(count)  # the signs
    correlations = np.corrcoef(values.T)[np.triu_indices(4, k=1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(count)


def test_draws_levels_signs_and_how_many():
    rng = np.random.default_rng(0)
    count = 20_000
    draws = [RandAugment().draw(rng) for _ in range(count)]
    lengths = np.bincount([len(layers) for layers in draws], minlength=3)
    expected = count * np.array([0.25, 0.5, 0.25])
    assert np.sum((lengths - expected) ** 2 / expected) < 13.9  # 99.9 %, 2 degrees of freedom
    levels = np.array([level for layers in draws for _, level, _ in layers])
    signs = np.array([sign for layers in draws for _, _, sign in layers])
    error = 4 / np.sqrt(len(levels))
    # The normal's top 2.28 % are cut to 10, which takes 0.0042 from the mean.
    assert abs(levels.mean() - 8.9958) < 0.5 * error
    assert abs(np.mean(levels == 10.0) - 0.02275) < 0.15 * error
    below = levels[levels < 9]
    assert abs(len(below) / len(levels) - 0.5) < 0.5 * error
    assert abs(np.mean((below - 9) ** 2) - 0.25) < 0.5 * error
    assert set(signs) == {1, -1}
    assert abs(signs.mean()) < error
    assert abs(np.corrcoef(signs, levels)[0, 1]) < error


def test_levels_are_cut_at_both_ends_and_nothing_may_apply():
    rng = np.random.default_rng(0)
    wild = RandAugment(num_layers=200, magnitude=5.0, magnitude_std=20.0, probability=1.0)
    levels = [level for _, level, _ in wild.draw(rng)]
    assert (min(levels), max(levels)) == (0.0, 10.0)
    assert RandAugment(probability=0.0).draw(rng) == []
    image = GOLDEN["image"]
    assert RandAugment(probability=0.0)(image, rng) is image
    same = RandAugment(magnitude=7.0, magnitude_std=0.0, probability=1.0)
    assert {level for _, level, _ in same.draw(rng)} == {7.0}
