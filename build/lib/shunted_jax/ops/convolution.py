"""Convolutions, and what takes their place where a backend is slow at them.

XLA's CPU backend computes the gradients of a convolution with a stride slowly: three times as
slowly where patches do not overlap, and up to sixteen times on maps of 4 x 4 and less. There, what
each output sees is laid out as a row, and the kernel is a matrix.

On GPUs the stem's 7x7 convolution of three channels took a tenth of the network's time. There it is
one of blocks of pixels.
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange

from shunted_jax.ops.dispatch import run
from shunted_jax.ops.operation import Form, Operation
from shunted_jax.ops.precision import precision_now

_FEW_CHANNELS = 4


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: int = 0,
    compute: str = "auto",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    """Convolves with zeros on all four sides; what a stride does not reach is left out.

    Args:
        x: [batch, height, width, in_channels].
        kernel: [size, size, in_channels, out_channels], of x's dtype.
        stride: of both axes.
        padding: rows and columns of zeros on each side.
        compute: "reference" for plain JAX.
        precision: of the products, as `jax.lax.dot` takes it.

    Returns:
        [batch, rows, columns, out_channels], (height + 2 padding - size) // stride + 1 rows and
        columns likewise.
    """
    return run(_operation(stride, padding, precision_now(precision)), x, kernel, compute=compute)


@functools.cache
def _operation(stride: int, padding: int, precision: jax.lax.PrecisionLike) -> Operation:
    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=precision,
        )

    def on_cpu(x, kernel):
        size = len(kernel)
        if size == stride and not padding:
            rows = _patches(x, size)
        elif (size, stride, padding) == (3, 2, 1):
            rows = _windows(x)
        else:
            return reference(x, kernel)
        matrix = rearrange(kernel, "i j c d -> (i j c) d")
        return jnp.matmul(rows, matrix, precision=precision)

    def on_cuda(x, kernel):
        # What is exported for sides of any length needs paddings that are numbers.
        known = all(isinstance(side, int) for side in x.shape[1:3])
        if stride == 2 and x.shape[-1] <= _FEW_CHANNELS and known:
            return _of_blocks(x, kernel, padding, precision)
        return reference(x, kernel)

    return Operation("convolution", reference, {"cpu": Form(on_cpu), "cuda": Form(on_cuda)})


def _of_blocks(
    x: jax.Array, kernel: jax.Array, padding: int, precision: jax.lax.PrecisionLike
) -> jax.Array:
    """Convolves with stride 2 as one with stride 1 over blocks of 2 x 2 pixels.

    cuDNN fills three channels up to eight. The twelve of a block's pixels waste less.
    """
    size, sides = len(kernel), x.shape[1:3]
    # Zeros in front have the kernel start with a block, and zeros behind have it end with one.
    front = padding % 2
    behind = (size + front) % 2
    kernel = jnp.pad(kernel, ((front, behind), (front, behind), (0, 0), (0, 0)))
    before = (padding + front) // 2
    pads = []
    for side in sides:
        seen = (side + 2 * padding - size) // 2 + len(kernel) // 2
        pads.append((before, seen - before - -(-side // 2)))
    # After an odd side there is half a block.
    x = jnp.pad(x, ((0, 0), (0, sides[0] % 2), (0, sides[1] % 2), (0, 0)))
    return jax.lax.conv_general_dilated(
        rearrange(x, "b (h i) (w j) c -> b h w (i j c)", i=2, j=2),
        rearrange(kernel, "(h i) (w j) c d -> h w (i j c) d", i=2, j=2),
        window_strides=(1, 1),
        padding=pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


def _patches(x: jax.Array, size: int) -> jax.Array:
    """Returns each patch as a row, [batch, rows, columns, size x size x channels]."""
    height, width = x.shape[1:3]
    x = x[:, : height - height % size, : width - width % size]
    return rearrange(x, "b (h i) (w j) c -> b h w (i j c)", i=size, j=size)


def _windows(x: jax.Array) -> jax.Array:
    """Returns what a 3x3 kernel with stride 2 and padding 1 sees of x, each window as a row.

    The map is taken apart into even and odd rows and columns, of which each tap sees a contiguous
    part.
    """
    rows, columns = (-(-side // 2) for side in x.shape[1:3])
    # Zeros on every side, and beyond an odd side as many as make its halves even.
    below, right = 2 * rows + 1 - x.shape[1], 2 * columns + 1 - x.shape[2]
    padded = jnp.pad(x, ((0, 0), (1, below), (1, right), (0, 0)))
    halves = rearrange(padded, "b (h i) (w j) c -> b h i w j c", i=2, j=2)
    taps = []
    for row in range(3):
        of_row = halves[:, row // 2 : row // 2 + rows, row % 2]
        for column in range(3):
            taps.append(of_row[:, :, column // 2 : column // 2 + columns, column % 2])
    return jnp.concatenate(taps, axis=-1)
