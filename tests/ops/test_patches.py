"""Convolutions as matrix products of patches: both forms are one function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunted_jax.ops.patches import FORMS, PatchConv, patch_conv
from shunted_jax.ops.strided import StridedConv3x3, strided_conv3x3


def arguments(shape, size, features):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((size, size, shape[-1], features)).astype(np.float32)
    return rng.standard_normal(shape).astype(np.float32), kernel


@settings(max_examples=10)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(4, 9), st.integers(4, 9), st.integers(1, 4)),
    size=st.integers(1, 4),
)
@pytest.mark.parametrize("form", [*FORMS, None])
def test_every_form_is_the_definition(form, shape, size):
    x, kernel = arguments(shape, size, 3)
    out = patch_conv(x, kernel, form)
    rows, columns = shape[1] // size, shape[2] // size
    assert out.shape == (shape[0], rows, columns, 3)
    for row, column in np.ndindex(rows, columns):
        patch = x[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
        expected = np.einsum("bijc,ijcd->bd", patch, kernel)
        np.testing.assert_allclose(out[:, row, column], expected, rtol=0, atol=1e-4)


def test_gradients_agree():
    x, kernel = arguments((2, 7, 9, 3), 2, 5)

    def gradients(form):
        out, pullback = jax.vjp(lambda x, k: patch_conv(x, k, form), x, kernel)
        return pullback(jnp.sin(out))

    for ours, theirs in zip(gradients("matmul"), gradients("conv"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("function", "size"), [(patch_conv, 2), (strided_conv3x3, 3)])
def test_form_follows_the_platform_that_the_program_is_for(function, size):
    traced = jax.jit(function).trace(*arguments((1, 4, 4, 2), size, 3))
    for platform, is_convolution in (("cpu", False), ("tpu", True), ("cuda", True)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in program) == is_convolution, platform


def test_module_starts_with_the_published_spread():
    for module, area in ((PatchConv(256, 4), 16), (StridedConv3x3(256), 9)):
        params = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 64)))["params"]
        # std = sqrt(2 / fan_out), fan_out being the kernel's area times the output channels.
        assert abs(params["kernel"].std() / np.sqrt(2 / (area * 256)) - 1) < 0.01
        assert not params["bias"].any()


@pytest.mark.parametrize(("function", "size"), [(patch_conv, 2), (strided_conv3x3, 3)])
def test_unknown_form_is_named(function, size):
    with pytest.raises(ValueError, match="'fast'.*'conv', 'matmul'"):
        function(*arguments((1, 4, 4, 2), size, 3), "fast")


@settings(max_examples=10)
@given(shape=st.tuples(*(st.integers(1, high) for high in (2, 7, 7, 4))))
def test_strided_forms_agree_in_value_and_gradient(shape):
    x, kernel = arguments(shape, 3, 5)

    def value_and_gradients(form):
        out, pullback = jax.vjp(lambda x, k: strided_conv3x3(x, k, form), x, kernel)
        return out, *pullback(jnp.sin(out))

    reference = value_and_gradients("conv")
    assert reference[0].shape == (shape[0], -(-shape[1] // 2), -(-shape[2] // 2), 5)
    for form in ("matmul", None):
        for ours, theirs in zip(value_and_gradients(form), reference, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
