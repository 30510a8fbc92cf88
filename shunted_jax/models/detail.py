"""What the detail-specific feed-forward does to its hidden map: GELU(y + DepthwiseConv3x3(y)).

The hidden map is the network's widest, up to eight times the stage's width, and at each training
step most of the traffic is its. The forms agree in value and in gradient; `forms.py` chooses:

- `conv`: as it is written, with autodiff's gradients.
- `shift`: with gradients written out. They save nothing but y, and where a map is large they go
  through the batch image by image, so that the temporaries of one stay in the CPU's cache: for
  [8, 56, 56, 512] on 2 CPU cores a quarter of the time that autodiff's take.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.models.depthwise import (
    depthwise_conv3x3,
    depthwise_parameters,
    shift_and_add,
    shift_gradients,
)
from shunted_jax.models.forms import run_fastest
from shunted_jax.models.gelu import gelu, gelu_derivative, gelu_value
from shunted_jax.models.on_each_device import batch_devices

# Numbers in an image's map from which the gradients go image by image: at 784 x 1024 that pays, at
# 196 x 1024 it costs.
_LARGE_MAP = 2**19


def _as_written(y: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    return gelu(y + (depthwise_conv3x3(y, kernel, "conv") + bias))


def _shifts(y: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    # Rows of positions, as the products that read them: XLA sees then that there are two, and keeps
    # the result. Behind a reshape it took them for one, and computed the taps anew for the second.
    rows = _before_gelu(y, kernel, bias).reshape(-1, y.shape[-1])
    return gelu_value(rows).astype(y.dtype).reshape(y.shape)


def _before_gelu(y: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    return y + shift_and_add(y, kernel) + bias


def _gradients(y, kernel, bias, cotangent):
    inner = _before_gelu(y, kernel, bias)
    inner = jax.lax.optimization_barrier(cotangent * gelu_derivative(inner))
    of_y, of_kernel = shift_gradients(y, kernel, inner)
    return (inner + of_y).astype(y.dtype), of_kernel, jnp.sum(inner, axis=(0, 1, 2))


def _backward(saved, cotangent):
    (y, kernel, bias), cotangent = jax.lax.optimization_barrier((saved, cotangent))
    # A loop over a batch that devices share would bring each image to all of them.
    if y[0].size < _LARGE_MAP or batch_devices() > 1:
        of_y, of_kernel, of_bias = _gradients(y, kernel, bias, cotangent)
    else:

        def add_image(sums, image):
            of_y, *of_parameters = _gradients(image[0][None], kernel, bias, image[1][None])
            return jax.tree.map(jnp.add, sums, of_parameters), of_y[0]

        precise = jnp.promote_types(y.dtype, jnp.float32)
        zeros = [jnp.zeros(parameter.shape, precise) for parameter in (kernel, bias)]
        (of_kernel, of_bias), of_y = jax.lax.scan(add_image, zeros, (y, cotangent))
    return of_y, of_kernel.astype(kernel.dtype), of_bias.astype(bias.dtype)


_with_shifts = jax.custom_vjp(_shifts)
_with_shifts.defvjp(
    lambda y, kernel, bias: (_shifts(y, kernel, bias), (y, kernel, bias)), _backward
)

FORMS = {"conv": _as_written, "shift": _with_shifts}


def detail_gelu(
    y: jax.Array, kernel: jax.Array, bias: jax.Array, form: str | None = None
) -> jax.Array:
    """Returns GELU(y + DepthwiseConv3x3(y)), of y's shape and dtype.

    Args:
        y: [batch, height, width, channels].
        kernel: [3, 3, 1, channels], of y's dtype.
        bias: [channels], of y's dtype.
        form: a name in `FORMS`; None takes the backend's fastest.

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    return run_fastest("depthwise", FORMS, y, kernel, bias, form=form)


class DetailGelu(nn.Module):
    """`detail_gelu` with a learned kernel [3, 3, 1, channels] and bias [channels]."""

    form: str | None = None
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to the same shape."""
        return detail_gelu(*depthwise_parameters(self, y), self.form)
