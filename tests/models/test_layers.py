"""The network's layers: layer norm is the definition, in value and in gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.models.layers import LayerNorm
from shunted_jax.models.numerics import Numerics

SHAPE = (2, 3, 5, 24)


def arguments(offset=0.0):
    rng = np.random.default_rng(0)
    scale, bias = rng.standard_normal((2, SHAPE[-1])).astype(np.float32)
    return rng.standard_normal(SHAPE).astype(np.float32) + np.float32(offset), scale, bias


@pytest.mark.parametrize("compute", ["auto", "reference"])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_layer_norm_is_the_definition_with_its_gradients(compute, offset):
    x, scale, bias = arguments(offset)
    dout = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)

    def layer_norm(x, scale, bias):
        module = LayerNorm(1e-5, Numerics(compute=compute))
        return module.apply({"params": {"scale": scale, "bias": bias}}, x)

    out, pull_back = jax.vjp(layer_norm, x, scale, bias)
    dx, dscale, dbias = pull_back(dout)

    centered = x.astype(np.float64) - x.astype(np.float64).mean(-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    normalized, scaled = centered / deviation, dout * scale.astype(np.float64)
    along = normalized * (scaled * normalized).mean(-1, keepdims=True)
    # At 1000 a float32 step is 6e-5 of the spread; the fast variance would be wrong by tenths.
    tolerance = 3e-3 if offset else 1e-5  # sums are of 30 positions
    np.testing.assert_allclose(out, normalized * scale + bias, rtol=0, atol=tolerance)
    expected = (scaled - scaled.mean(-1, keepdims=True) - along) / deviation
    np.testing.assert_allclose(dx, expected, rtol=0, atol=tolerance)
    positions = (0, 1, 2)
    np.testing.assert_allclose(dscale, (dout * normalized).sum(positions), rtol=0, atol=tolerance)
    np.testing.assert_allclose(dbias, dout.astype(np.float64).sum(positions), rtol=0, atol=1e-5)


def test_layer_norms_statistics_of_bfloat16_are_float32():
    x = jnp.asarray(arguments(offset=100.0)[0], jnp.bfloat16)
    module = LayerNorm(1e-6, Numerics(dtype=jnp.bfloat16))
    variables = module.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    out = module.apply(variables, x)
    assert out.dtype == jnp.bfloat16
    exact = LayerNorm(1e-6).apply(variables, x.astype(jnp.float32))
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))
