"""Random erasing: one box an image, drawn as the recipe says, filled with noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from shunted_jax.augment.erasing import draw_boxes, random_erase
from tests.support.quick import quick_jit

AREA, ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)
SIDE = 200
ERASE = quick_jit(functools.partial(random_erase, prob=1.0))


def boxes(count, prob=1.0, area=AREA, aspect=ASPECT, shape=(SIDE, SIDE), seed=0):
    """Returns top, left, height and width of each image's box; zeros where there is none."""
    draw = quick_jit(
        functools.partial(draw_boxes, shape=(count, *shape), prob=prob, area=area, aspect=aspect)
    )
    inside = draw(jax.random.key(seed))
    rows, columns = np.asarray(inside.any(axis=2)), np.asarray(inside.any(axis=1))
    # It is one whole rectangle.
    np.testing.assert_array_equal(inside, rows[:, :, None] & columns[:, None, :])
    return rows.argmax(axis=1), columns.argmax(axis=1), rows.sum(axis=1), columns.sum(axis=1)


@pytest.fixture(scope="module")
def drawn():
    return boxes(3000)


def test_area_and_log_aspect_are_uniform(drawn):
    _, _, height, width = boxes(3000, area=(0.02, 0.2))  # always fits
    area = height * width / SIDE**2
    # Sides are whole pixels: by the distance of the distributions, not by a p-value.
    assert stats.kstest(area, stats.uniform(0.02, 0.18).cdf).statistic < 0.03
    limit = np.log(1 / 0.3)
    assert (
        stats.kstest(np.log(height / width), stats.uniform(-limit, 2 * limit).cdf).statistic < 0.03
    )


def test_the_largest_that_fit_are_the_formulas(drawn):
    _, _, height, width = drawn
    rng = np.random.default_rng(0)
    area = SIDE**2 * rng.uniform(*AREA, 30_000)
    aspect = np.exp(rng.uniform(np.log(ASPECT[0]), np.log(ASPECT[1]), 30_000))
    sides = np.round(np.sqrt(area * aspect)), np.round(np.sqrt(area / aspect))
    fits = (sides[0] < SIDE) & (sides[1] < SIDE)
    assert stats.ks_2samp(height, sides[0][fits]).pvalue > 0.01
    assert stats.ks_2samp(width, sides[1][fits]).pvalue > 0.01


def test_place_is_uniform_up_to_the_edge(drawn):
    top, left, height, width = drawn
    for start, length in ((top, height), (left, width)):
        assert stats.kstest((start + 0.5) / (SIDE - length + 1), "uniform").statistic < 0.03
        assert (start + length).max() == SIDE
        assert start.min() == 0


def test_images_are_chosen_at_the_probability():
    _, _, height, _ = boxes(3000, prob=0.25)
    assert abs(np.mean(height > 0) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 3000)
    assert not boxes(100, prob=0.0)[2].any()


def test_a_box_that_cannot_fit_is_left_out():
    assert not boxes(50, area=(0.9, 1.0), aspect=(3.0, 3.3))[2].any()


def test_noise_is_normal_and_the_rest_untouched():
    images = jnp.full((64, 48, 40, 3), 7.0)
    erased = np.asarray(ERASE(jax.random.key(1), images))
    noise = erased[erased != 7.0]
    share = noise.size / erased.size
    assert 0.1 < share < 0.25
    assert stats.kstest(noise, "norm").pvalue > 0.01
    changed = (erased != 7.0).all(axis=-1)
    np.testing.assert_array_equal(changed, (erased != 7.0).any(axis=-1))  # all channels


def test_key_decides():
    images = jnp.zeros((64, 48, 40, 3))
    one, same, other = (ERASE(jax.random.key(k), images) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
