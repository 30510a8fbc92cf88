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

from shunted_jax.models.forms import run_fastest
from shunted_jax.models.initializers import depthwise_kernel_init
from shunted_jax.models.on_each_device import batch_devices

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
    taps = kernel[:, :, 0].astype(jnp.promote_types(x.dtype, jnp.float32))
    return sum(
        window * taps[row, column] for (row, column), window in _windows(x.astype(taps.dtype))
    )


def shift_gradients(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of `shift_and_add` to x and to the kernel, both in at least float32.

    Args:
        x: [batch, height, width, channels].
        kernel: [3, 3, 1, channels].
        cotangent: [batch, height, width, channels].
    """
    precise = cotangent.astype(jnp.promote_types(x.dtype, jnp.float32))
    # Each of the nine sums would compute anew what the cotangent is computed from.
    precise = jax.lax.optimization_barrier(precise)
    # On small maps the zeros around them would be most of the work. A batch that devices share is
    # no run of memory.
    is_run = min(x.shape[1:3]) >= _LARGE_SIDE and batch_devices() == 1
    sums = _sums_of_runs if is_run else _sums_of_windows
    of_kernel = sums(x.astype(precise.dtype), precise)
    return shift_and_add(precise, kernel[::-1, ::-1]), of_kernel.reshape(kernel.shape)


def _sums_of_windows(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Returns for each of nine taps the sum over positions of what it saw times the cotangent."""
    return jnp.stack([jnp.sum(window * cotangent, axis=(0, 1, 2)) for _, window in _windows(x)])


def _sums_of_runs(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Returns what `_sums_of_windows` does, in an order that XLA's CPU backend runs fast.

    Both maps get the same rows and columns of zeros, in which the cotangent's end, so that what a
    tap sees is the whole batch moved by a fixed number of positions: one run of memory. Of eight
    parts of it the products are added up first, in one loop; a matrix product adds up the rest.
    The nine sums take 2.7 times as long for [56, 56, 512]: each writes out its window.
    """
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    width = x.shape[2]
    cotangent = jnp.pad(cotangent, ((0, 0), (0, 2), (0, 2), (0, 0)))
    x, cotangent = (rearrange(maps, "b h w c -> (b h w) c") for maps in (x, cotangent))
    part = -(-len(x) // _PARTS)
    beyond = _PARTS * part - len(x)
    cotangent = jnp.pad(cotangent, ((0, beyond), (0, 0)))
    x = jnp.pad(x, ((0, beyond + 2 * width + 2), (0, 0)))
    x, cotangent = jax.lax.optimization_barrier((x, cotangent))
    starts = range(0, _PARTS * part, part)
    sums = []
    for row in range(3):
        for column in range(3):
            seen = x[row * width + column :]
            products = sum(seen[i : i + part] * cotangent[i : i + part] for i in starts)
            sums.append(jnp.matmul(jnp.ones(part, x.dtype), products, precision="highest"))
    return jnp.stack(sums)


def _windows(x: jax.Array):
    """Yields ((row, column), what that tap of the kernel sees): nine shifted copies of x."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for row in range(3):
        for column in range(3):
            yield (row, column), padded[:, row : row + height, column : column + width]


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
        x, kernel, bias = depthwise_parameters(self, x)
        return depthwise_conv3x3(x, kernel, self.form) + bias


def depthwise_parameters(module: nn.Module, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Declares `kernel` [3, 3, 1, channels] and `bias` [channels]; returns (x, kernel, bias).

    All are of `module.dtype`, x having been [..., channels] of any.
    """
    channels = x.shape[-1]
    kernel = module.param("kernel", depthwise_kernel_init, (3, 3, 1, channels), module.param_dtype)
    bias = module.param("bias", nn.initializers.zeros, (channels,), module.param_dtype)
    return nn.dtypes.promote_dtype(x, kernel, bias, dtype=module.dtype)
