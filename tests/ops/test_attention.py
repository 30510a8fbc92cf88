"""softmax(Q K^T / sqrt(d)) V is the definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.ops.attention import dot_product_attention
from tests.support.tolerances import looser

pytestmark = [pytest.mark.accelerator, pytest.mark.usefixtures("float32_products")]


def arguments(spread=1.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = (2, 6, 3, 8), (2, 5, 3, 8), (2, 5, 3, 8)  # [batch, tokens, heads, d]
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return tuple(jnp.asarray(array, dtype) for array in (q * np.float32(spread), k, v))


@pytest.mark.parametrize("compute", ["auto", "reference"])
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_it_is_the_definition(compute, spread):
    q, k, v = (np.asarray(array, np.float64) for array in arguments(spread))
    expected = np.empty(q.shape)
    for image, head in np.ndindex(q.shape[0], q.shape[2]):
        scores = q[image, :, head] @ k[image, :, head].T / np.sqrt(8)
        # At a spread of 300 exponentials of the scores themselves overflow.
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected[image, :, head] = weights / weights.sum(-1, keepdims=True) @ v[image, :, head]
    out = dot_product_attention(*arguments(spread), compute=compute)
    np.testing.assert_allclose(out, expected, rtol=0, atol=looser(1e-6 * max(spread, 10)))


@pytest.mark.parametrize("compute", ["auto", "reference"])
def test_bfloat16_scores_and_sums_are_float32(compute):
    halves = arguments(dtype=jnp.bfloat16)
    out = dot_product_attention(*halves, compute=compute)
    assert out.dtype == jnp.bfloat16
    exact = dot_product_attention(*(array.astype(jnp.float32) for array in halves))
    # q times the scale, the weights and the result are rounded, to 8 bits each.
    atol = looser(0.04, "bfloat16")
    np.testing.assert_allclose(out.astype(jnp.float32), exact, rtol=0, atol=atol)
