"""Attention's form for TPUs, carried out on a CPU, agrees with plain JAX and keeps no weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.ops import attention
from tests.support.draws import draw

SHAPES = [(2, 6, 3, 8), *[(2, 5, 3, 8)] * 2]
BIAS = (3, 6, 5)


def results(form, arrays, dout):
    """Returns the value and the gradients, written out where the form has them so."""
    out, pull_back = jax.vjp(form.differentiable, *arrays)
    return out, *(form.gradients(*arrays, dout) if form.gradients else pull_back(dout))


def both(arrays, exact):
    """Returns what the TPU's form makes of arrays, and the plain one of `exact` arrays."""
    operation = attention._operation("highest")
    (dout,) = draw(arrays[0].shape, dtype=arrays[0].dtype)
    plain = attention.Form(operation.reference)
    ours = jax.jit(lambda: results(operation.form("tpu"), arrays, dout))()
    theirs = jax.jit(lambda: results(plain, exact, dout.astype(exact[0].dtype)))()
    return ours, theirs


@pytest.mark.parametrize("spread", [1, 30])
@pytest.mark.parametrize("biased", [False, True])
def test_value_and_gradients_are_the_plain_ones(biased, spread):
    q, *others = draw(*SHAPES, *[BIAS] * biased)
    arrays = [q * spread, *others]
    for actual, expected in zip(*both(arrays, arrays), strict=True):
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-6 * scale)


def test_bfloat16_is_float32_rounded():
    halves = draw(*SHAPES, dtype=jnp.bfloat16)
    ours, theirs = both(halves, [array.astype(jnp.float32) for array in halves])
    assert {array.dtype for array in ours} == {jnp.dtype("bfloat16")}
    for actual, expected in zip(ours, theirs, strict=True):
        # 8 bits, of some steps on the way: the plain form is as far off.
        atol = 2**-6 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(actual.astype(jnp.float32), expected, rtol=0, atol=atol)


def test_the_gradients_compute_the_exponentials_again():
    arrays = draw(*SHAPES, dtype=jnp.bfloat16)
    program = jax.jit(jax.grad(lambda *a: jnp.sum(jnp.sin(attention.dot_product_attention(*a)))))
    text = program.trace(*arrays).lower(lowering_platforms=("tpu",)).as_text()
    # Behind a barrier, so that the compiler does not take the forward pass's and keep them.
    exponentials = [found.start() for found in re.finditer("stablehlo.exponential", text)]
    assert len(exponentials) == 2
    gradients = re.search(r"func\.func private @\S+\(.*\n.*optimization_barrier", text)
    assert gradients
    assert exponentials[0] < gradients.start() < exponentials[1]
