"""The stem's convolutions: their forms compute one function, with one set of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.ops import convolution
from shunted_jax.ops.convolution import OverlappingConv, overlapping_conv
from tests.support.quick import quick_jit

CASES = [(2, 7, 3), (1, 3, 5)]  # stride, size, in_channels


def arguments(stride, size, in_channels, batch=11):
    rng = np.random.default_rng(0)
    shapes = (
        (batch, 9, 12, in_channels),
        (size, size, in_channels, 4),
        (batch, -(-9 // stride), 12 // stride, 4),
    )
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def definition(x, kernel, cotangent, stride):
    """Returns the convolution and its gradients in float64, tap by tap."""
    x, kernel, cotangent = (array.astype(np.float64) for array in (x, kernel, cotangent))
    size, (height, width) = len(kernel), cotangent.shape[1:3]
    edge = (size // 2, size // 2)
    padded = np.pad(x, ((0, 0), edge, edge, (0, 0)))
    out, of_padded, of_kernel = (np.zeros_like(array) for array in (cotangent, padded, kernel))
    for row in range(size):
        for column in range(size):
            rows = slice(row, row + stride * height, stride)
            columns = slice(column, column + stride * width, stride)
            seen = padded[:, rows, columns][:, :height, :width]
            out += seen @ kernel[row, column]
            of_kernel[row, column] = np.einsum("bhwc,bhwd->cd", seen, cotangent)
            of_padded[:, rows, columns] += cotangent @ kernel[row, column].T
    inside = slice(edge[0], -edge[0])
    return out, of_padded[:, inside, inside], of_kernel


@pytest.mark.parametrize("batch", [1, 11])  # less than the parts, and no multiple of them
@pytest.mark.parametrize("case", CASES)
def test_every_form_is_the_definition(case, batch, monkeypatch):
    monkeypatch.setattr(convolution, "_LARGE_MAP", 1)
    stride = case[0]
    arrays = arguments(*case, batch=batch)
    exact = definition(*arrays, stride)
    for form in ("whole", "parts", None):

        def value_and_gradients(x, kernel, cotangent, form=form):
            out, pullback = jax.vjp(lambda *a: overlapping_conv(*a, stride, form), x, kernel)
            return out, *pullback(cotangent)

        for ours, theirs in zip(quick_jit(value_and_gradients)(*arrays), exact, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())


def test_a_large_maps_kernel_gradient_is_in_parts_on_a_cpu_alone():
    def of_kernel(x, kernel, cotangent):
        return jax.vjp(lambda kernel: overlapping_conv(x, kernel, 2), kernel)[1](cotangent)

    for side, parts in ((224, 8), (32, 1)):
        shapes = ((8, side, side, 3), (7, 7, 3, 64), (8, side // 2, side // 2, 64))
        structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        traced = jax.jit(of_kernel).trace(*structs)
        counts = {
            platform: traced.lower(lowering_platforms=(platform,)).as_text().count("convolution(")
            for platform in ("cpu", "tpu", "cuda")
        }
        assert counts["tpu"] == counts["cuda"]
        assert counts["cpu"] == counts["tpu"] + parts - 1


def test_module_declares_a_kernel_and_no_bias():
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    module = OverlappingConv(5, 7, 2, dtype=jnp.bfloat16)
    out, variables = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x), images)
    assert (out.shape, out.dtype) == ((1, 4, 4, 5), jnp.bfloat16)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (7, 7, 3, 5)}}


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match="'halves'.*'parts', 'whole'"):
        overlapping_conv(*arguments(*CASES[0])[:2], form="halves")
