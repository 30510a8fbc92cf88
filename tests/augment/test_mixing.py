"""Mixup and cutmix: the weights' distributions, and that images and targets are mixed alike."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from shunted_jax.augment.mixing import draw_weights, mix_images, mix_targets
from tests.support.quick import quick_jit

HEIGHT, WIDTH = 60, 80
MIX_IMAGES, MIX_TARGETS = quick_jit(mix_images), quick_jit(mix_targets)


def drawn(count, mixup_alpha, cutmix_alpha, switch_prob=0.5, seed=0):
    draw = functools.partial(
        draw_weights,
        height=HEIGHT,
        width=WIDTH,
        mixup_alpha=mixup_alpha,
        cutmix_alpha=cutmix_alpha,
        switch_prob=switch_prob,
    )
    return np.asarray(quick_jit(jax.vmap(draw))(jax.random.split(jax.random.key(seed), count)))


@pytest.mark.parametrize("alpha", [0.8, 0.2, 1.0])
def test_mixup_is_one_number_from_beta(alpha):
    weights = drawn(3000, alpha, 0.0)
    assert (weights == weights[:, :1, :1]).all()
    assert stats.kstest(weights[:, 0, 0], stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_cutmix_is_a_box_whose_sides_and_centre_follow_the_formula():
    weights = drawn(3000, 0.0, 1.0)
    assert set(np.unique(weights)) == {0.0, 1.0}
    pasted = weights == 0
    rows, columns = pasted.any(axis=2), pasted.any(axis=1)
    np.testing.assert_array_equal(pasted, rows[:, :, None] & columns[:, None, :])

    # The published formula, from numpy's random numbers.
    rng = np.random.default_rng(0)
    share = np.sqrt(1 - rng.beta(1.0, 1.0, 30_000))
    expected = {}
    for name, length in (("rows", HEIGHT), ("columns", WIDTH)):
        center, half = rng.integers(0, length, 30_000), (length * share).astype(int) // 2
        start, end = np.clip(center - half, 0, length), np.clip(center + half, 0, length)
        expected[name] = end - start
    assert stats.ks_2samp(rows.sum(axis=1), expected["rows"]).pvalue > 0.01
    assert stats.ks_2samp(columns.sum(axis=1), expected["columns"]).pvalue > 0.01
    area = expected["rows"] * expected["columns"]
    assert stats.ks_2samp(pasted.sum(axis=(1, 2)), area).pvalue > 0.01


@pytest.mark.parametrize("switch_prob", [0.5, 0.2])
def test_one_of_the_two_at_the_switch_probability(switch_prob):
    weights = drawn(2000, 0.8, 1.0, switch_prob)
    is_cutmix = ((weights == 0) | (weights == 1)).all(axis=(1, 2))
    error = np.sqrt(switch_prob * (1 - switch_prob) / 2000)
    assert abs(is_cutmix.mean() - switch_prob) < 4 * error
    mixup = weights[~is_cutmix]
    assert (mixup == mixup[:, :1, :1]).all()
    assert stats.kstest(mixup[:, 0, 0], stats.beta(0.8, 0.8).cdf).pvalue > 0.01


def test_without_either_all_is_kept():
    assert (drawn(3, 0.0, 0.0) == 1).all()


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), [(0.8, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("batch", [4, 5])
def test_images_and_targets_are_mixed_with_the_reversed_batch(mixup_alpha, cutmix_alpha, batch):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, HEIGHT, WIDTH, 3)).astype(np.float32)
    targets = rng.dirichlet(np.ones(6), batch).astype(np.float32)
    for weights in drawn(4, mixup_alpha, cutmix_alpha):
        found = MIX_IMAGES(images, weights)
        w = weights[None, :, :, None].astype(np.float64)
        np.testing.assert_allclose(found, w * images + (1 - w) * images[::-1], atol=1e-6)
        if cutmix_alpha:  # pixels are copied, not computed
            assert np.isin(found, images).all()
        kept = weights.mean()  # for cutmix, corrected to the area that was pasted
        mixed = MIX_TARGETS(targets, weights)
        np.testing.assert_allclose(mixed, kept * targets + (1 - kept) * targets[::-1], atol=1e-6)
        np.testing.assert_allclose(mixed.sum(axis=-1), 1, atol=1e-6)
