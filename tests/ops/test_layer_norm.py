"""Layer norm: both forms are the definition, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.ops.layer_norm import FORMS, LayerNorm, layer_norm

SHAPE = (2, 3, 5, 24)


def arguments(offset=0.0):
    rng = np.random.default_rng(0)
    scale, bias = rng.standard_normal((2, SHAPE[-1])).astype(np.float32)
    return rng.standard_normal(SHAPE).astype(np.float32) + np.float32(offset), scale, bias


@pytest.mark.parametrize("form", [*FORMS, None])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_every_form_is_the_definition(form, offset):
    x, scale, bias = arguments(offset)
    precise = x.astype(np.float64)
    centered = precise - precise.mean(-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6)
    # At 1000 a float32 step is 6e-5 of the spread; the fast variance would be wrong by tenths.
    tolerance = 1e-3 if offset else 1e-5
    np.testing.assert_allclose(
        layer_norm(x, scale, bias, 1e-6, form), centered / deviation * scale + bias, atol=tolerance
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_gradients_are_those_of_the_definition(form, offset):
    x, scale, bias = arguments(offset)
    cotangent = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    _, pullback = jax.vjp(lambda *a: layer_norm(*a, 1e-5, form), x, scale, bias)
    of_x, of_scale, of_bias = pullback(cotangent)

    centered = x.astype(np.float64) - x.astype(np.float64).mean(-1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    normalized, scaled = centered / deviation, cotangent * scale.astype(np.float64)
    along = normalized * (scaled * normalized).mean(-1, keepdims=True)
    tolerance = 3e-3 if offset else 1e-5  # as above; sums are of 30 positions
    np.testing.assert_allclose(
        of_x, (scaled - scaled.mean(-1, keepdims=True) - along) / deviation, atol=tolerance
    )
    positions = (0, 1, 2)
    np.testing.assert_allclose(of_scale, (cotangent * normalized).sum(positions), atol=tolerance)
    np.testing.assert_allclose(of_bias, cotangent.astype(np.float64).sum(positions), atol=1e-5)


def test_form_follows_the_platform_that_the_program_is_for():
    traced = jax.jit(lambda *a: layer_norm(*a, 1e-6)).trace(*arguments())
    for platform, is_product in (("cpu", True), ("tpu", False), ("cuda", False)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.dot_general" in program) == is_product, platform


def test_statistics_of_bfloat16_are_float32():
    x, _, _ = arguments(offset=100.0)
    x = jnp.asarray(x, jnp.bfloat16)
    module = LayerNorm(epsilon=1e-6, dtype=jnp.bfloat16)
    variables = module.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    out = module.apply(variables, x)
    assert out.dtype == jnp.bfloat16
    exact = LayerNorm(epsilon=1e-6).apply(variables, x.astype(jnp.float32))
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match="'fast'.*'matmul', 'reduce'"):
        layer_norm(*arguments(), 1e-6, "fast")
