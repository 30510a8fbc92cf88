"""The depthwise 3x3 convolution, one module in interchangeable forms.

Each feed-forward layer and each value map of the network goes through one (paper section 3: the
detail-specific feed-forward and the local enhancement), so its speed decides the network's.
The forms compute the same sum and agree in value and in gradient; `forms.py` chooses:

- `conv`: one XLA convolution with as many feature groups as channels. The GPU and TPU backends have
  kernels for it; XLA's CPU backend has none and falls back to a loop that is many times slower.
- `shift`: nine shifted copies of the map, each multiplied by its kernel tap and added up. XLA fuses
  them into one pass over the map. The gradients are written out: what autodiff makes of the sum
  takes more than twice as long on a CPU.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from shunted_jax.models.initializers import depthwise_kernel_init
from shunted_jax.ops.dispatch import run_fastest
from shunted_jax.ops.pallas.on_each_device import batch_devices
from shunted_jax.ops.precision import at_least_float32

_PARTS = 8
_LARGE_SIDE = 9


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def shift_and_add(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution of `depthwise_conv3x3` in at least float32, as autodiff sees it."""
    # Nine bfloat16 additions would lose what a convolution's float32 accumulator keeps.
    return _weighted_windows(_bordered(x.astype(at_least_float32(x))), kernel)


def shift_gradients(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `shift_and_add` to x and to the kernel, both in at least float32.

    Args:
        x: [batch, height, width, channels].
        kernel: [3, 3, 1, channels].
        cotangent: [batch, height, width, channels].
    """
    # Each of the nine sums would compute anew what the cotangent is computed from.
    cotangent = jax.lax.optimization_barrier(cotangent.astype(at_least_float32(x)))
    seen, moved = _bordered(x.astype(cotangent.dtype)), _bordered(cotangent)
    # On small maps the zeros around them would be most of the work. A batch that devices share is
    # no run of memory.
    if min(x.shape[1:3]) >= _LARGE_SIDE and batch_devices() == 1:
        of_kernel = _sums_of_runs(seen, moved)
    else:
        of_kernel = [jnp.sum(window * cotangent, axis=(0, 1, 2)) for window in _windows(seen)]
    of_x = _weighted_windows(moved, kernel[::-1, ::-1])
    return of_x, jnp.stack(of_kernel).reshape(kernel.shape)


def _sums_of_runs(seen: jax.Array, moved: jax.Array) -> list[jax.Array]:
    """Returns for each of nine taps the sum over positions of what it saw times the cotangent.

    What a tap sees is the whole batch, borders and all, moved by a fixed number of positions: one
    run of memory, and where it is another image's, the cotangent's border is zero. Of eight parts
    of it the products are added up first, in one loop; a matrix product adds up the rest. Over
    windows instead the nine sums take 2.7 times as long for [56, 56, 512]: each writes out its own.

    Args:
        seen: with a border, as `_bordered` makes it.
        moved: the cotangent, likewise.
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


def _shift_backward(saved, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    of_x, of_kernel = shift_gradients(x, kernel, cotangent)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


def _shifts(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return shift_and_add(x, kernel).astype(x.dtype)


_shifted_multiply_adds = jax.custom_vjp(_shifts)
_shifted_multiply_adds.defvjp(lambda x, kernel: (_shifts(x, kernel), (x, kernel)), _shift_backward)

FORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "conv": _convolution,
    "shift": _shifted_multiply_adds,
}


def depthwise_conv3x3(x: jax.Array, kernel: jax.Array, form: str | None = None) -> jax.Array:
    """Convolves each channel with its own 3x3 kernel, stride 1, one row of zeros on every side.

    Args:
        x: [batch, height, width, channels].
        kernel: [3, 3, 1, channels], of x's dtype.
        form: a name in `FORMS`; None takes the fastest for the backend that the program is lowered
            for, which need not be the process's default one.

    Returns:
        [batch, height, width, channels], of x's dtype.

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    return run_fastest("depthwise", FORMS, x, kernel, form=form)


class DepthwiseConv3x3(nn.Module):
    """`depthwise_conv3x3` with a learned kernel [3, 3, 1, channels] and bias [channels]."""

    form: str | None = None
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to the same shape."""
        channels = x.shape[-1]
        kernel = self.param("kernel", depthwise_kernel_init, (3, 3, 1, channels), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return depthwise_conv3x3(x, kernel, self.form) + bias
