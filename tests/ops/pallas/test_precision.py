"""The kernels' products: those of float32 are so, and those of bfloat16 are left as they are."""

import jax
import jax.numpy as jnp
import pytest

from shunted_jax.models.cost import all_equations
from shunted_jax.models.mlp import DetailFeedForward
from shunted_jax.ops.pallas import attention_kernel
from shunted_jax.ops.pallas.feed_forward import call_kernels


def attention(dtype):
    q, v = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((1, 32, 9), (1, 4, 32)))

    def both_ways(q, k, v):
        how = {"num_heads": 2, "interpret": False}
        out = attention_kernel.attend(q, k, v, **how)
        return attention_kernel.attend_gradients(q, k, v, out, **how)

    return jax.make_jaxpr(both_ways)(q, v, v)


def feed_forward(dtype):
    x = jax.ShapeDtypeStruct((8, 3, 3, 8), dtype)
    params = jax.eval_shape(DetailFeedForward(128).init, jax.random.key(0), x)["params"]

    def both_ways(x, params):
        out, pull_back = jax.vjp(lambda x, params: call_kernels(8, False, x, params), x, params)
        return pull_back(out)

    return jax.make_jaxpr(both_ways)(x, params)


@pytest.mark.parametrize(("kernels", "products"), [(attention, 2 * (2 + 5)), (feed_forward, 2 + 5)])
@pytest.mark.parametrize(
    ("dtype", "expected"), [(jnp.float32, "HIGHEST"), (jnp.bfloat16, "DEFAULT")]
)
@pytest.mark.parametrize("setting", ["default", "highest"])
def test_products_are_as_precise_as_their_operands(kernels, products, dtype, expected, setting):
    with jax.default_matmul_precision(setting):
        jaxpr = kernels(dtype).jaxpr
    asked = [
        equation.params["precision"]
        for _, equation in all_equations(jaxpr)
        if equation.primitive.name == "dot_general"
    ]
    assert asked == [(jax.lax.Precision[expected],) * 2] * products
