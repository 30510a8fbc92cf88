"""The 3x3 convolution with stride 2 between two stages, in two forms.

`forms.py` chooses:

- `conv`: an XLA convolution.
- `matmul`: what each output sees laid out as a row, times the kernel as a matrix. The map is first
  taken apart into even and odd rows and columns, of which every tap sees a contiguous part. On 2
  CPU cores the gradients take 0.8 to 0.9 of the other form's time on large maps, and from 4 x 4
  down, where XLA's convolution runs into a slow path, a fifth to a sixteenth.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from shunted_jax.ops.convolution import forms_with_stride
from shunted_jax.ops.dispatch import run_fastest
from shunted_jax.ops.patches import conv_parameters
from shunted_jax.ops.product import product_narrow_first


def _matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
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
    rows = jnp.concatenate(taps, axis=-1)
    return product_narrow_first(rows, rearrange(kernel, "i j c d -> (i j c) d"))


FORMS = {"conv": forms_with_stride(2)["whole"], "matmul": _matrix_product}


def strided_conv3x3(x: jax.Array, kernel: jax.Array, form: str | None = None) -> jax.Array:
    """Convolves with stride 2 and one row of zeros on every side; an odd side is halved upwards.

    Args:
        x: [batch, height, width, in_channels].
        kernel: [3, 3, in_channels, out_channels], of x's dtype.
        form: a name in `FORMS`; None takes the backend's fastest.

    Returns:
        [batch, height/2, width/2, out_channels].

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    return run_fastest("strided", FORMS, x, kernel, form=form)


class StridedConv3x3(nn.Module):
    """`strided_conv3x3` with a learned kernel [3, 3, in_channels, features] and bias [features]."""

    features: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, in_channels] to [batch, height/2, width/2, features]."""
        kernel, bias = conv_parameters(self, (3, 3, x.shape[-1], self.features))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return strided_conv3x3(x, kernel) + bias
