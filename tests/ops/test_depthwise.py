"""The depthwise convolution is its definition."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunted_jax.ops.depthwise import depthwise_conv3x3
from tests.support.tolerances import looser

pytestmark = [pytest.mark.accelerator, pytest.mark.usefixtures("float32_products")]


def by_hand(x, kernel):
    """Returns the convolution from its definition, in float64."""
    batch, height, width, channels = x.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((batch, height, width, channels))
    for row, column in np.ndindex(height, width):
        window = padded[:, row : row + 3, column : column + 3]
        out[:, row, column] = np.einsum("bijc,ijc->bc", window, kernel[:, :, 0])
    return out


def random_arguments(shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 1, shape[-1])).astype(np.float32)
    return x, kernel


@pytest.mark.parametrize("compute", ["auto", "reference"])
@settings(max_examples=10)
@given(shape=st.tuples(*(st.integers(1, high) for high in (2, 6, 6, 5))))
def test_it_is_the_definition(compute, shape):
    x, kernel = random_arguments(shape)
    out = depthwise_conv3x3(x, kernel, compute=compute)
    np.testing.assert_allclose(out, by_hand(x, kernel), rtol=0, atol=looser(1e-5))


@pytest.mark.parametrize("compute", ["auto", "reference"])
def test_bfloat16_is_rounded_once(compute):
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in random_arguments((1, 5, 5, 4)))
    exact = by_hand(np.asarray(x, np.float64), np.asarray(kernel, np.float64))
    out = depthwise_conv3x3(x, kernel, compute=compute)
    assert out.dtype == jnp.bfloat16
    # Half a unit in the last of bfloat16's 8 bits, and a little for float32's own rounding.
    np.testing.assert_allclose(np.asarray(out, np.float64), exact, rtol=2**-8, atol=looser(1e-5))
