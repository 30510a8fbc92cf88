"""Scores from their definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.tasks.metrics import correct_in_top_k, score

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((64, 10)).astype(np.float32)
LABELS = RNG.integers(0, 10, 64).astype(np.int32)


def log_softmax(logits):
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("k", [1, 5, 10])
def test_top_k_by_sorting(k):
    best = np.argsort(-LOGITS, axis=-1)[:, :k]
    expected = (best == LABELS[:, None]).any(axis=-1)
    np.testing.assert_array_equal(correct_in_top_k(LOGITS, LABELS, k), expected)


def test_undecided_logits_are_not_correct():
    constant, nothing = jnp.zeros((1, 10)), jnp.full((1, 10), jnp.nan)
    for logits in (constant, nothing):
        assert not correct_in_top_k(logits, jnp.array([0]), 5).any()
    assert correct_in_top_k(jnp.zeros((1, 3)), jnp.array([0]), 5).all()


def test_padding_counts_nowhere():
    mask = np.arange(64) % 3 > 0
    poisoned = np.where(mask[:, None], LOGITS, np.nan)
    masked = score(jnp.asarray(poisoned), jnp.asarray(LABELS), jnp.asarray(mask))
    kept = score(jnp.asarray(LOGITS[mask]), jnp.asarray(LABELS[mask]), jnp.ones(mask.sum(), bool))
    for name, mean in kept.items():
        assert mean.count == mask.sum()
        np.testing.assert_allclose(masked[name].value, mean.value, rtol=1e-6)


def test_means_over_unequal_batches_add_up():
    def scores(rows):
        return score(LOGITS[rows], LABELS[rows], np.ones(len(LABELS[rows]), bool))

    first, second, whole = scores(slice(10)), scores(slice(10, None)), scores(slice(None))
    for name, mean in whole.items():
        np.testing.assert_allclose((first[name] + second[name]).value, mean.value, rtol=1e-6)
