"""The product of a linear map: its forms compute one function, with one set of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.ops.product import FORMS, Dense, product


def arguments(in_channels, out_channels, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    shapes = ((2, 3, 4, in_channels), (in_channels, out_channels), (2, 3, 4, out_channels))
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def value_and_gradients(form, x, kernel, cotangent):
    out, pullback = jax.vjp(lambda *a: product(*a, form), x, kernel)
    return out, *pullback(cotangent)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("channels", [(5, 9), (9, 5), (7, 7), (95, 90)])
def test_every_form_is_the_definition(channels, dtype):
    x, kernel, cotangent = arguments(*channels, dtype)
    wide = [np.asarray(array, np.float64) for array in (x, kernel, cotangent)]
    exact = (
        wide[0] @ wide[1],
        wide[2] @ wide[1].T,
        np.einsum("bhwc,bhwd->cd", wide[0], wide[2]),
    )
    for form in (*FORMS, None):
        for ours, theirs in zip(
            value_and_gradients(form, x, kernel, cotangent), exact, strict=True
        ):
            assert ours.dtype == dtype
            np.testing.assert_allclose(
                np.float64(ours), theirs, rtol=jnp.finfo(dtype).eps, atol=1e-5
            )


def test_the_narrow_factor_is_turned_over_on_a_cpu_alone():
    for channels in ((5, 9), (9, 5)):
        traced = jax.jit(lambda *a: value_and_gradients(None, *a)).trace(*arguments(*channels))
        for platform, has_barrier in (("cpu", channels == (9, 5)), ("tpu", False), ("cuda", False)):
            program = traced.lower(lowering_platforms=(platform,)).as_text()
            assert ("stablehlo.optimization_barrier" in program) == has_barrier, platform


def test_the_factors_of_a_large_kernels_gradient_are_left_as_they_are():
    arrays = arguments(95, 90)  # 356 numbers for each of 24 positions
    traced = jax.jit(lambda *a: value_and_gradients("narrow_first", *a)).trace(*arrays)
    assert "optimization_barrier" not in str(traced.jaxpr)


def test_dense_is_the_product_and_a_bias():
    x, kernel, _ = arguments(5, 9)
    bias = np.arange(9, dtype=np.float32)
    out = Dense(9).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_array_equal(out, product(x, kernel) + bias)


def test_unknown_form_is_named():
    x, kernel, _ = arguments(5, 9)
    with pytest.raises(ValueError, match="'wide'.*'narrow_first', 'plain'"):
        product(x, kernel, "wide")
