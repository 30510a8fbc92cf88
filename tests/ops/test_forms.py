"""Each computation's forms agree: in value, in gradients, forward and reverse, of both orders.

The form of the platform that the tests run on is compared with plain JAX on a CPU.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.ops.attention import dot_product_attention
from shunted_jax.ops.convolution import convolution
from shunted_jax.ops.depthwise import depthwise_conv3x3
from shunted_jax.ops.gelu import gelu
from shunted_jax.ops.layer_norm import layer_norm
from tests.support.draws import draw
from tests.support.quick import quick_jit
from tests.support.tolerances import looser

pytestmark = [pytest.mark.accelerator, pytest.mark.usefixtures("float32_products")]

# Depthwise gradients go separate ways for small maps and large ones; a stride of 2 on odd sides.
CASES = {
    "gelu": (gelu, [(2, 5, 4)]),
    "layer norm": (partial(layer_norm, epsilon=1e-5), [(2, 3, 5, 24), (24,), (24,)]),
    "depthwise, small map": (depthwise_conv3x3, [(2, 7, 5, 6), (3, 3, 1, 6)]),
    "depthwise, large map": (depthwise_conv3x3, [(2, 10, 13, 6), (3, 3, 1, 6)]),
    "depthwise, one image": (depthwise_conv3x3, [(1, 9, 9, 1), (3, 3, 1, 1)]),
    "attention": (dot_product_attention, [(2, 6, 3, 8), *[(2, 5, 3, 8)] * 2]),
    "attention, biased": (dot_product_attention, [(2, 6, 3, 8), *[(2, 5, 3, 8)] * 2, (3, 6, 5)]),
    "stem": (partial(convolution, stride=2, padding=3), [(2, 9, 12, 3), (7, 7, 3, 4)]),
    "stem's further convolutions": (partial(convolution, padding=1), [(2, 6, 5, 3), (3, 3, 3, 4)]),
    "patches": (partial(convolution, stride=2), [(2, 7, 9, 3), (2, 2, 3, 5)]),
    "patch embedding": (partial(convolution, stride=2, padding=1), [(2, 7, 8, 3), (3, 3, 3, 5)]),
    "patch embedding, tiny": (
        partial(convolution, stride=2, padding=1),
        [(1, 1, 2, 2), (3, 3, 2, 3)],
    ),
}


def both(results):
    """Returns what `results(compute)` are here, and in plain JAX on a CPU."""
    ours = jax.device_get(quick_jit(partial(results, "auto"))())
    with jax.default_device(jax.devices("cpu")[0]):
        return ours, jax.device_get(quick_jit(partial(results, "reference"))())


def assert_close(ours, theirs, tolerance):
    def close(one, other):
        assert one.dtype == other.dtype
        one, other = (np.asarray(leaf, np.float64) for leaf in (one, other))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1, np.abs(other).max()))

    jax.tree.map(close, ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_forms_agree_in_value_and_in_derivatives_of_both_orders(case):
    function, shapes = CASES[case]
    point, along = draw(*shapes), draw(*shapes, seed=1)

    def results(compute):
        def loss(*arguments):
            return jnp.sum(jnp.sin(function(*arguments, compute=compute)))

        gradients = jax.grad(loss, argnums=tuple(range(len(shapes))))
        return {
            "value": function(*point, compute=compute),
            "gradients": gradients(*point),
            "forward": jax.jvp(loss, tuple(point), tuple(along))[1],
            "Hessian, forward over reverse": jax.jvp(gradients, tuple(point), tuple(along))[1],
            "Hessian, reverse over reverse": jax.vjp(gradients, *point)[1](tuple(along)),
        }

    ours, theirs = both(results)
    assert_close(ours, theirs, looser(2e-5))
    assert_close(ours["forward"], sum(map(np.vdot, ours["gradients"], along)), looser(2e-5))


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_is_float32_rounded(case):
    function, shapes = CASES[case]
    halves = draw(*shapes, dtype=jnp.bfloat16)
    exact = [array.astype(jnp.float32) for array in halves]

    dout = draw(jax.eval_shape(function, *exact).shape, seed=2)[0]

    def results(compute):
        arguments = halves if compute == "auto" else exact
        out, pull_back = jax.vjp(partial(function, compute=compute), *arguments)
        return out, pull_back(dout.astype(out.dtype))

    ours, theirs = both(results)
    assert ours[0].dtype == (jnp.float32 if case == "layer norm" else jnp.bfloat16)
    assert {dx.dtype for dx in ours[1]} == {jnp.dtype("bfloat16")}
    as_float32 = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), ours)
    # 8 bits, of some steps on the way.
    assert_close(as_float32, theirs, looser(2**-6, "bfloat16"))


@pytest.mark.parametrize("case", ["depthwise, large map", "patches", "patch embedding"])
def test_a_cpus_program_has_no_convolution_that_is_slow_there_and_others_have_them(case):
    function, shapes = CASES[case]
    program = jax.jit(jax.grad(lambda *a: jnp.sum(jnp.sin(function(*a))), (0, 1)))
    traced = program.trace(*draw(*shapes))
    for platform in ("cpu", "tpu", "cuda"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == (platform != "cpu"), platform
