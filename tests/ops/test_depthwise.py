"""The depthwise convolution's forms compute one function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunted_jax.ops.depthwise import FORMS, DepthwiseConv3x3, depthwise_conv3x3


def by_hand(x, kernel):
    """Returns the convolution from its definition, in float64."""
    batch, height, width, channels = x.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((batch, height, width, channels))
    for row, column in np.ndindex(height, width):
        window = padded[:, row : row + 3, column : column + 3]
        out[:, row, column] = np.einsum("bijc,ijc->bc", window, kernel[:, :, 0])
    return out


def random_arguments(shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 1, shape[-1])).astype(np.float32)
    return x, kernel


@pytest.mark.parametrize("form", [*FORMS, None])
@settings(max_examples=10)
@given(shape=st.tuples(*(st.integers(1, high) for high in (2, 6, 6, 5))))
def test_every_form_is_the_definition(form, shape):
    x, kernel = random_arguments(shape)
    out = depthwise_conv3x3(x, kernel, form)
    np.testing.assert_allclose(out, by_hand(x, kernel), rtol=0, atol=1e-5)


# Small maps and large ones go separate ways.
@pytest.mark.parametrize("shape", [(2, 7, 5, 6), (1, 9, 9, 1), (2, 10, 13, 6)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_agree(dtype, shape):
    x, kernel = (jnp.asarray(a, dtype) for a in random_arguments(shape))
    cotangent = jnp.asarray(random_arguments(shape, seed=1)[0], dtype)

    def gradients(form):
        _, pullback = jax.vjp(lambda x, k: depthwise_conv3x3(x, k, form), x, kernel)
        return pullback(cotangent)

    reference = gradients("conv")
    for form in ("shift", None):
        for ours, theirs in zip(gradients(form), reference, strict=True):
            assert ours.dtype == dtype
            np.testing.assert_allclose(
                *(np.asarray(a, np.float32) for a in (ours, theirs)),
                rtol=jnp.finfo(dtype).eps * 2,
                atol=2e-5,
            )


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_is_rounded_once(form):
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in random_arguments((1, 5, 5, 4)))
    exact = by_hand(np.asarray(x, np.float64), np.asarray(kernel, np.float64))
    out = depthwise_conv3x3(x, kernel, form)
    assert out.dtype == jnp.bfloat16
    # Half a unit in the last of bfloat16's 8 bits, and a little for float32's own rounding.
    np.testing.assert_allclose(np.asarray(out, np.float64), exact, rtol=2**-8, atol=1e-5)


def test_form_follows_the_platform_that_the_program_is_for():
    x, kernel = random_arguments((1, 4, 4, 2))
    traced = jax.jit(depthwise_conv3x3).trace(x, kernel)
    for platform, is_convolution in (("cpu", False), ("tpu", True), ("cuda", True)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in program) == is_convolution, platform


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match="'fast'.*'conv', 'shift'"):
        depthwise_conv3x3(*random_arguments((1, 4, 4, 2)), "fast")


def test_module_starts_with_the_published_spread():
    module = DepthwiseConv3x3()
    params = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 4096)))["params"]
    # std = sqrt(2 / fan_out) with fan_out 9: one kernel of 3 x 3 for each group.
    assert abs(params["kernel"].std() / np.sqrt(2 / 9) - 1) < 0.02
    assert not params["bias"].any()
