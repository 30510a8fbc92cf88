"""Forms for GPUs, carried out on a CPU, agree with plain JAX; what only a GPU has is asked for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from shunted_jax.ops import attention, convolution, cudnn, depthwise
from shunted_jax.ops.operation import as_tuple
from tests.support.draws import draw

# Sides, sizes and paddings that are odd and even.
STRIDED = [
    ((2, 9, 12, 3), 7, 3),
    ((1, 12, 9, 3), 7, 3),
    ((2, 7, 8, 4), 3, 1),
    ((2, 9, 11, 1), 5, 2),
    ((2, 5, 8, 3), 4, 0),
    ((1, 7, 7, 2), 4, 1),
]


def assert_alike(operation, *arrays):
    """Asserts that CUDA's form gives the plain one's value and gradients, to rounding."""
    form = operation.form("cuda")

    @jax.jit
    def results(arrays):
        plain, pull_back = jax.vjp(operation.reference, *arrays)
        (dout,) = draw(plain.shape)
        ours, ours_back = jax.vjp(form.differentiable, *arrays)
        by_form = form.gradients(*arrays, dout) if form.gradients else ours_back(dout)
        return (plain, *pull_back(dout)), (ours, *as_tuple(by_form)), form.call(*arrays)

    plain, ours, value = results(arrays)
    for expected, actual in zip((plain[0], *plain), (value, *ours), strict=True):
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-6 * scale)


@pytest.mark.parametrize(("shape", "size", "padding"), STRIDED)
def test_convolution_of_blocks_is_the_one_with_stride_2(shape, size, padding):
    operation = convolution._operation(2, padding, "highest")
    x, kernel = draw(shape, (size, size, shape[-1], 5))
    assert_alike(operation, x, kernel)
    program = jax.make_jaxpr(operation.form("cuda").call)(x, kernel)
    assert "window_strides=(1, 1)" in str(program)


def test_many_channels_are_not_laid_out_in_blocks():
    operation = convolution._operation(2, 1, None)
    x, kernel = draw((1, 6, 6, 8), (3, 3, 8, 4))
    assert "window_strides=(2, 2)" in str(jax.make_jaxpr(operation.form("cuda").call)(x, kernel))


@pytest.mark.parametrize("shape", [(2, 7, 5, 6), (1, 10, 13, 4), (2, 1, 1, 3)])
def test_depthwise_gradients_are_those_of_the_convolution(shape):
    assert_alike(depthwise._operation(None), *draw(shape, (3, 3, 1, shape[-1])))


@pytest.mark.parametrize("biased", [False, True])
def test_attention_in_float32_is_plain(biased):
    shapes = [(2, 6, 3, 8), *[(2, 5, 3, 8)] * 2, *([(3, 6, 5)] if biased else [])]
    assert_alike(attention._operation(None), *draw(*shapes))


def test_without_cudnn_16_bits_are_plain_too(monkeypatch):
    monkeypatch.setattr(cudnn, "has_cudnn_attention", lambda: False)
    shapes = [(2, 6, 3, 8), *[(2, 5, 3, 8)] * 2]
    arrays = draw(*shapes, dtype=jnp.bfloat16)
    out = attention._operation(None).form("cuda").call(*arrays)
    np.testing.assert_array_equal(out, attention._operation(None).reference(*arrays))


class AskedError(Exception):
    """The form asked for cuDNN."""


@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 8), ("float16", 32)])
def test_with_cudnn_16_bits_are_cudnns(monkeypatch, dtype, width):
    def asked(q, k, v, **options):
        assert options.pop("implementation") == "cudnn"
        names = ("query_seq_lengths", "key_value_seq_lengths")
        lengths = [options[name] for name in names] if options else []
        raise AskedError(q.shape[1], k.shape[1], v.shape[1], *(int(n[0]) for n in lengths))

    monkeypatch.setattr(cudnn, "has_cudnn_attention", lambda: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", asked)
    form = attention._operation(None).form("cuda")
    arrays = draw((2, 7, 3, width), *[(2, 5, 3, width)] * 2, dtype=dtype)
    with pytest.raises(AskedError) as call:
        form.call(*arrays)
    assert call.value.args == (7, 5, 5)
    with pytest.raises(AskedError) as call:
        form.gradients(*arrays, arrays[0])
    assert call.value.args == (8, 6, 6, 7, 5)  # padded, and said so
    even = draw((2, 4, 3, width), *[(2, 6, 3, width)] * 2, dtype=dtype)
    with pytest.raises(AskedError) as call:
        form.gradients(*even, even[0])
    assert call.value.args == (4, 6, 6)


@pytest.mark.parametrize(
    ("q", "kv", "dtypes"),
    [
        ((2, 6, 3, 4), (2, 5, 3, 4), ["bfloat16"] * 3),  # narrow heads
        ((2, 6, 1, 136), (2, 5, 1, 136), ["bfloat16"] * 3),  # wide ones
        ((0, 6, 3, 8), (0, 5, 3, 8), ["bfloat16"] * 3),
        ((2, 6, 3, 8), (2, 5, 3, 8), ["bfloat16", "bfloat16", "float32"]),
    ],
)
def test_what_cudnn_does_not_take_is_plain(monkeypatch, q, kv, dtypes):
    monkeypatch.setattr(cudnn, "has_cudnn_attention", lambda: True)
    arrays = [x.astype(dtype) for x, dtype in zip(draw(q, kv, kv), dtypes, strict=True)]
    operation = attention._operation(None)
    out, pull_back = jax.vjp(operation.reference, *arrays)
    np.testing.assert_array_equal(operation.form("cuda").call(*arrays), out)
    jax.tree.map(
        np.testing.assert_array_equal,
        operation.form("cuda").gradients(*arrays, out),
        pull_back(out),
    )


def test_a_stem_for_sides_of_any_length_is_exported():
    batch, side = export.symbolic_shape("batch, side", constraints=["side >= 32"])
    images = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((7, 7, 3, 4), jnp.float32)
    program = jax.jit(partial(convolution.convolution, stride=2, padding=3))
    exported = export.export(program, platforms=("cuda",))(images, kernel)
    assert exported.platforms == ("cuda",)
