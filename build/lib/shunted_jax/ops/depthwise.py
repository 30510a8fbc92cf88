"""The depthwise 3x3 convolution.

Each feed-forward layer and each value map of the network goes through one (paper section 3: the
detail-specific feed-forward and the local enhancement), so its speed decides the network's. XLA's
CPU backend has no kernel for it, only a loop, which makes the whole network 2.5 to 3.8 times
slower. There it is nine shifted copies of the map, each multiplied by its kernel tap, added up in
one pass. The gradients are written out: what autodiff makes of the sum takes more than twice as
long.

On GPUs cuDNN has a kernel for it. Nine shifted copies in one fusion with what follows move less
(10.1 GB instead of 13.2 in the network's inference), and still take longer (7.6 ms instead of 6.2).
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange

from shunted_jax.ops.dispatch import run
from shunted_jax.ops.operation import Form, Operation
from shunted_jax.ops.partitioning import batch_devices
from shunted_jax.ops.precision import at_least_float32, precision_now

_PARTS = 8
_LARGE_SIDE = 9


def depthwise_conv3x3(
    x: jax.Array,
    kernel: jax.Array,
    *,
    compute: str = "auto",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    """Convolves each channel with its own 3x3 kernel, stride 1, one row of zeros on every side.

    Args:
        x: [batch, height, width, channels].
        kernel: [3, 3, 1, channels], of x's dtype.
        compute: "reference" for plain JAX.
        precision: of the products, as `jax.lax.dot` takes it.

    Returns:
        [batch, height, width, channels], of x's dtype.
    """
    return run(_operation(precision_now(precision)), x, kernel, compute=compute)


@functools.cache
def _operation(precision: jax.lax.PrecisionLike) -> Operation:
    reference = functools.partial(_reference, precision=precision)
    on_cuda = Form(reference, functools.partial(_gradients_as_convolutions, precision=precision))
    forms = {"cpu": Form(_shift_and_add, _gradients), "cuda": on_cuda}
    return Operation("depthwise", reference, forms)


def _reference(x: jax.Array, kernel: jax.Array, precision: jax.lax.PrecisionLike) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision=precision,
    )


def _shift_and_add(x: jax.Array, kernel: jax.Array) -> jax.Array:
    # Nine bfloat16 additions would lose what a convolution's float32 accumulator keeps.
    precise = x.astype(at_least_float32(x))
    return _weighted_windows(_bordered(precise), kernel).astype(x.dtype)


def _gradients(x: jax.Array, kernel: jax.Array, dout: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Each of the nine sums would compute anew what dout is computed from.
    dout = jax.lax.optimization_barrier(dout.astype(at_least_float32(x)))
    seen, moved = _bordered(x.astype(dout.dtype)), _bordered(dout)
    # On small maps the zeros around them would be most of the work. A batch that devices share is
    # no run of memory.
    if min(x.shape[1:3]) >= _LARGE_SIDE and batch_devices() == 1:
        dkernel = _sums_of_runs(seen, moved)
    else:
        dkernel = [jnp.sum(window * dout, axis=(0, 1, 2)) for window in _windows(seen)]
    dx = _weighted_windows(moved, kernel[::-1, ::-1])
    dkernel = jnp.stack(dkernel).reshape(kernel.shape)
    return dx.astype(x.dtype), dkernel.astype(kernel.dtype)


def _sums_of_runs(seen: jax.Array, moved: jax.Array) -> list[jax.Array]:
    """Returns for each of nine taps the sum over positions of what it saw times dout.

    What a tap sees is the whole batch, borders and all, moved by a fixed number of positions: one
    run of memory, and where it is another image's, dout's border is zero. Of eight parts
    of it the products are added up first, in one loop; a matrix product adds up the rest. Over
    windows instead the nine sums take 2.7 times as long for [56, 56, 512]: each writes out its own.

    Args:
        seen: with a border, as `_bordered` makes it.
        moved: dout, likewise.
    """
    width = seen.shape[2]
    seen, moved = (rearrange(maps, "b h w c -> (b h w) c") for maps in (seen, moved))
    seen, moved = jax.lax.optimization_barrier((seen, moved))
    # From the first image's first position to the last one's last, and into the border below.
    first, last = width + 1, len(seen) - 2 * width - 2
    part = -(-(last + 1 - first) // _PARTS)
    starts = range(first, first + _PARTS * part, part)
    sums = []
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            by = row * width + column
            products = sum(seen[i + by : i + by + part] * moved[i : i + part] for i in starts)
            sums.append(jnp.matmul(jnp.ones(part, seen.dtype), products, precision="highest"))
    return sums


def _bordered(x: jax.Array) -> jax.Array:
    """Returns x with a row or column of zeros on every side, and one more row below.

    The parts of `_sums_of_runs` are equally long and reach up to 7 positions beyond the last image,
    and a tap one more: into that row, as maps of `_LARGE_SIDE` are wide enough.
    """
    return jnp.pad(x, ((0, 0), (1, 2), (1, 1), (0, 0)))


def _windows(bordered: jax.Array) -> list[jax.Array]:
    """Returns what each tap of the kernel sees: nine shifted copies of x."""
    height, width = bordered.shape[1] - 3, bordered.shape[2] - 2
    return [
        bordered[:, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]


def _weighted_windows(bordered: jax.Array, kernel: jax.Array) -> jax.Array:
    taps = rearrange(kernel.astype(bordered.dtype), "i j 1 c -> (i j) c")
    return sum(window * tap for window, tap in zip(_windows(bordered), taps, strict=True))


def _gradients_as_convolutions(
    x: jax.Array, kernel: jax.Array, dout: jax.Array, *, precision: jax.lax.PrecisionLike
) -> tuple[jax.Array, jax.Array]:
    convolve = functools.partial(_reference, precision=precision)
    # cuDNN's convolution takes half of the time of its own gradient, which XLA would take for one
    # whose kernel it sees turned round.
    turned = jax.lax.optimization_barrier(kernel[::-1, ::-1])
    (dkernel,) = jax.linear_transpose(functools.partial(convolve, x), kernel)(dout)
    return convolve(dout, turned), dkernel
