"""The depthwise 3x3 convolution, one module in interchangeable forms.

Each feed-forward layer and each value map of the network goes through one (paper section 3: the
detail-specific feed-forward and the local enhancement), so its speed decides the network's.
The forms compute the same sum and agree in value and in gradient; which is fast depends on the
backend:

- `conv`: one XLA convolution with as many feature groups as channels. The GPU and TPU backends have
  kernels for it; XLA's CPU backend has none and falls back to a loop that is many times slower.
- `shift`: nine shifted copies of the map, each multiplied by its kernel tap and added up. XLA fuses
  them into one pass over the map.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.models.initializers import depthwise_kernel_init


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _shifted_multiply_adds(x: jax.Array, kernel: jax.Array) -> jax.Array:
    height, width = x.shape[1:3]
    # Nine bfloat16 additions would lose what a convolution's float32 accumulator keeps.
    accumulator = jnp.promote_types(x.dtype, jnp.float32)
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(accumulator)
    taps = kernel[:, :, 0].astype(accumulator)
    total = sum(
        padded[:, row : row + height, column : column + width] * taps[row, column]
        for row in range(3)
        for column in range(3)
    )
    return total.astype(x.dtype)


FORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "conv": _convolution,
    "shift": _shifted_multiply_adds,
}

# Measured on 2 CPU cores, shunted_t forward at 224 pixels, batch 1 and 16: with `shift` the whole
# network is 2.5 to 3.8 times as fast as with `conv`. Compiled for a TPU, `conv` moves fewer bytes.
_FASTEST_FORM = {"cpu": "shift"}
_OTHERWISE = "conv"


def check_form(form: str | None) -> None:
    """Raises ValueError unless `form` is None or a name in `FORMS`."""
    if form is not None and form not in FORMS:
        raise ValueError(
            f"depthwise_form is {form!r}, and the forms are {sorted(FORMS)}; "
            "None takes the one that is fastest on the backend"
        )


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
    check_form(form)
    if form is not None:
        return FORMS[form](x, kernel)
    per_platform = {platform: FORMS[name] for platform, name in _FASTEST_FORM.items()}
    return jax.lax.platform_dependent(x, kernel, **per_platform, default=FORMS[_OTHERWISE])


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
