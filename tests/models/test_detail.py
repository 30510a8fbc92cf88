"""The feed-forward's inner step: its forms compute one function, with one set of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from shunted_jax.models import detail
from shunted_jax.models.detail import DetailGelu, detail_gelu
from shunted_jax.models.gelu import gelu, gelu_derivative


def arguments(dtype=jnp.float32, shape=(3, 7, 5, 6)):
    rng = np.random.default_rng(0)
    shapes = (shape, (3, 3, 1, shape[-1]), shape[-1:], shape)
    return [jnp.asarray(rng.standard_normal(size), dtype) for size in shapes]


@pytest.mark.parametrize("large_map", [1, 2**19], ids=["image by image", "batch at once"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_forms_agree_in_value_and_gradient(dtype, large_map, monkeypatch):
    monkeypatch.setattr(detail, "_LARGE_MAP", large_map)
    *primals, cotangent = arguments(dtype)

    def value_and_gradients(form, *primals):
        out, pullback = jax.vjp(lambda *p: detail_gelu(*p, form), *primals)
        return out, *pullback(cotangent.astype(out.dtype))

    reference = value_and_gradients("conv", *(leaf.astype(jnp.float32) for leaf in primals))
    for form in ("shift", None):
        for ours, theirs in zip(value_and_gradients(form, *primals), reference, strict=True):
            assert ours.dtype == dtype
            # In bfloat16 the result is rounded, and what is inside of it is not.
            np.testing.assert_allclose(
                np.asarray(ours, np.float32), theirs, rtol=jnp.finfo(dtype).eps, atol=2e-5
            )


def test_form_follows_the_platform_that_the_program_is_for():
    *primals, cotangent = arguments()

    def gradients(*primals):
        return jax.vjp(detail_gelu, *primals)[1](cotangent)

    traced = jax.jit(gradients).trace(*primals)
    for platform, is_convolution in (("cpu", False), ("tpu", True), ("cuda", True)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in program) == is_convolution, platform
    assert "conditional" not in traced.lower().compile().as_text(), "a choice is left"


def test_gradients_keep_nothing_but_the_hidden_map():
    *primals, _ = arguments()
    _, pullback = jax.vjp(lambda *p: detail_gelu(*p, "shift"), *primals)
    kept = sorted(leaf.size for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "size"))
    assert kept == sorted(leaf.size for leaf in primals)


def test_gelu_is_the_definition():
    x = np.float32([*np.linspace(-12, 12, 4001), 0.0, -100.0, 100.0]).astype(np.float64)
    exact = x * scipy.special.ndtr(x)
    assert np.all(np.abs(gelu(jnp.float32(x)) - exact) <= 3e-7 * np.maximum(np.abs(x), 1))
    density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(
        gelu_derivative(jnp.float32(x)), scipy.special.ndtr(x) + x * density, rtol=0, atol=5e-7
    )


def test_gelu_in_bfloat16_is_rounded_once():
    x = jnp.linspace(-4, 4, 1001).astype(jnp.bfloat16)
    exact = np.float64(x) * scipy.special.ndtr(np.float64(x))
    out = gelu(x)
    assert out.dtype == jnp.bfloat16
    # Half a unit in the last of bfloat16's 8 bits, and a little for float32's own rounding.
    np.testing.assert_allclose(np.float64(out), exact, rtol=2**-8, atol=1e-6)


def test_module_declares_the_depthwise_parameters():
    shapes = jax.tree.map(jnp.shape, DetailGelu().init(jax.random.key(0), jnp.zeros((1, 4, 4, 6))))
    assert shapes == {"params": {"kernel": (3, 3, 1, 6), "bias": (6,)}}


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match="'fast'.*'conv', 'shift'"):
        detail_gelu(*arguments()[:3], "fast")
