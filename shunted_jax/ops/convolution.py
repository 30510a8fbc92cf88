"""The stem's convolutions, which overlap and keep or halve the sides, in two forms.

`forms.py` chooses:

- `whole`: an XLA convolution, with its gradients.
- `parts`: the kernel's gradient added up over parts of the batch. XLA's CPU backend computes that
  gradient on one core, and several at the same time: for eight parts of [8, 112, 112, 64] and a 3x3
  kernel both gradients take two thirds of the time on 2 cores, as does that of the 7x7 kernel.
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from shunted_jax.models.initializers import conv_kernel_init
from shunted_jax.ops.dispatch import run_fastest
from shunted_jax.ops.pallas.on_each_device import batch_devices
from shunted_jax.ops.precision import at_least_float32

_PARTS = 8
# Numbers in an image's result from which parts pay: at 112 x 112 x 64 they do, at 16 x 16 x 64 not.
_LARGE_MAP = 2**19


@functools.cache
def forms_with_stride(stride: int) -> dict[str, Callable[[jax.Array, jax.Array], jax.Array]]:
    """Returns the forms by name, functions of x and kernel as `overlapping_conv` takes them."""

    def whole(x, kernel):
        padding = [(side // 2, side // 2) for side in kernel.shape[:2]]
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=dimensions
        )

    def backward(saved, cotangent):
        x, kernel = saved
        (of_x,) = jax.linear_transpose(lambda x: whole(x, kernel), x)(cotangent)
        # A part of a batch that devices share would be brought to all of them.
        is_split = cotangent[0].size >= _LARGE_MAP and batch_devices() == 1
        parts = min(_PARTS, len(x)) if is_split else 1
        bounds = np.linspace(0, len(x), parts + 1, dtype=int)
        of_kernel = jnp.zeros(kernel.shape, at_least_float32(kernel))
        for start, stop in itertools.pairwise(bounds):
            convolve = functools.partial(whole, x[start:stop])
            (of_part,) = jax.linear_transpose(convolve, kernel)(cotangent[start:stop])
            of_kernel += of_part
        return of_x, of_kernel.astype(kernel.dtype)

    parts = jax.custom_vjp(whole)
    parts.defvjp(lambda x, kernel: (whole(x, kernel), (x, kernel)), backward)
    return {"whole": whole, "parts": parts}


def overlapping_conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, form: str | None = None
) -> jax.Array:
    """Convolves with as many rows and columns of zeros on every side as half the kernel has.

    Args:
        x: [batch, height, width, in_channels].
        kernel: [size, size, in_channels, out_channels], of x's dtype and an odd size.
        stride: of both axes.
        form: a name in `forms_with_stride`; None takes the backend's fastest.

    Returns:
        [batch, height/stride, width/stride, out_channels], rounded upwards.

    Raises:
        ValueError: `form` is not the name of one.
    """
    return run_fastest("overlapping", forms_with_stride(stride), x, kernel, form=form)


class OverlappingConv(nn.Module):
    """`overlapping_conv` with a learned kernel [size, size, in_channels, features] and no bias."""

    features: int
    size: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, in_channels] to [batch, height/stride, width/stride, ...]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", conv_kernel_init, shape, self.param_dtype)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        return overlapping_conv(x, kernel, self.stride)
