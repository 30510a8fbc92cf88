"""Convolutions are their definition, whatever their stride and padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunted_jax.ops.convolution import convolution
from tests.support.tolerances import looser

pytestmark = [pytest.mark.accelerator, pytest.mark.usefixtures("float32_products")]


def by_hand(x, kernel, stride, padding):
    """Returns the convolution from its definition, in float64."""
    size, edge = len(kernel), (padding, padding)
    padded = np.pad(x.astype(np.float64), ((0, 0), edge, edge, (0, 0)))
    rows, columns = ((side + 2 * padding - size) // stride + 1 for side in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for row, column in np.ndindex(rows, columns):
        top, left = row * stride, column * stride
        window = padded[:, top : top + size, left : left + size]
        out[:, row, column] = np.einsum("bijc,ijcd->bd", window, kernel)
    return out


@pytest.mark.parametrize("compute", ["auto", "reference"])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(7, 2, 3), (3, 1, 1), (3, 2, 1), (1, 1, 0), (2, 2, 0), (4, 4, 0)],
)
@settings(max_examples=4)
@given(shape=st.tuples(st.integers(1, 2), st.integers(4, 9), st.integers(4, 9), st.integers(1, 4)))
def test_it_is_the_definition(compute, size, stride, padding, shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    kernel = rng.standard_normal((size, size, shape[-1], 3)).astype(np.float32)
    out = convolution(x, kernel, stride=stride, padding=padding, compute=compute)
    np.testing.assert_allclose(out, by_hand(x, kernel, stride, padding), rtol=0, atol=looser(1e-4))
