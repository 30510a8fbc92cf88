"""Products with a Hessian, through the gradients that are written out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.ops import feed_forward as detail
from shunted_jax.ops.attention import dot_product_attention
from shunted_jax.ops.convolution import overlapping_conv
from shunted_jax.ops.depthwise import depthwise_conv3x3
from shunted_jax.ops.feed_forward import detail_feed_forward
from shunted_jax.ops.gelu import gelu
from shunted_jax.ops.layer_norm import layer_norm
from shunted_jax.ops.product import product
from tests.support.quick import quick_jit

MAP, KERNEL, BIAS = (2, 10, 9, 4), (3, 3, 1, 4), (4,)


def feed_forward(x, *leaves):
    names = ("fc1", "depthwise", "fc2")
    layers = (dict(zip(("kernel", "bias"), leaves[i : i + 2], strict=True)) for i in (0, 2, 4))
    return detail_feed_forward(x, dict(zip(names, layers, strict=True)), "shift")


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (gelu, [MAP]),
        (partial(depthwise_conv3x3, form="shift"), [MAP, KERNEL]),
        (feed_forward, [MAP, (4, 4), BIAS, KERNEL, BIAS, (4, 4), BIAS]),
        (partial(layer_norm, epsilon=1e-5, form="matmul"), [MAP, BIAS, BIAS]),
        (partial(product, form="narrow_first"), [MAP, (4, 3)]),
        (partial(dot_product_attention, form="quotient"), [(2, 6, 3, 4), *[(2, 5, 3, 4)] * 2]),
        (partial(overlapping_conv, stride=2, form="parts"), [MAP, (7, 7, 4, 3)]),
    ],
    ids=["gelu", "depthwise", "detail", "layer norm", "product", "attention", "stem"],
)
def test_forward_over_reverse_is_reverse_over_reverse(function, shapes, monkeypatch):
    monkeypatch.setattr(detail, "_GRADIENTS_AT_A_TIME", 1)  # a loop over images
    rng = np.random.default_rng(0)
    point, vector = ([rng.standard_normal(shape, np.float32) for shape in shapes] for _ in "pv")

    def gradients(*arguments):
        def loss(*arguments):
            return jnp.sum(jnp.square(function(*arguments)))

        return jax.grad(loss, argnums=tuple(range(len(arguments))))(*arguments)

    def forwards(*arguments):
        return jax.jvp(gradients, arguments, tuple(vector))[1]

    def backwards(*arguments):
        return jax.vjp(gradients, *arguments)[1](tuple(vector))

    ours, theirs = quick_jit(lambda *p: (forwards(*p), backwards(*p)))(*point)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(other).max() > 1
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())
