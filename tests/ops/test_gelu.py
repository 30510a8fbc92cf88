"""GELU is the exact one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from shunted_jax.ops.gelu import gelu
from tests.support.tolerances import looser

pytestmark = pytest.mark.accelerator

X = np.float32([*np.linspace(-12, 12, 4001), 0.0, -100.0, 100.0]).astype(np.float64)


@pytest.mark.parametrize("compute", ["auto", "reference"])
def test_it_is_the_definition_with_its_derivative(compute):
    values, slopes = jax.jvp(
        lambda x: gelu(x, compute=compute), (jnp.float32(X),), (jnp.ones(len(X)),)
    )
    exact = X * scipy.special.ndtr(X)
    assert np.all(np.abs(values - exact) <= looser(3e-7) * np.maximum(np.abs(X), 1))
    slope = scipy.special.ndtr(X) + X * np.exp(-0.5 * X**2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(slopes, slope, rtol=0, atol=looser(5e-7))


def test_in_bfloat16_it_is_rounded_once():
    x = jnp.linspace(-4, 4, 1001).astype(jnp.bfloat16)
    exact = np.float64(x) * scipy.special.ndtr(np.float64(x))
    out = gelu(x)
    assert out.dtype == jnp.bfloat16
    # Half a unit in the last of bfloat16's 8 bits, and a little for float32's own rounding.
    np.testing.assert_allclose(np.float64(out), exact, rtol=2**-8, atol=looser(1e-6))


def test_nothing_but_x_is_kept_for_the_gradient():
    x = jnp.ones((3, 4))
    _, pull_back = jax.vjp(gelu, x)
    assert [leaf.shape for leaf in jax.tree.leaves(pull_back)] == [x.shape]
