"""The convolution that does not overlap, its stride being its kernel's size, in two forms.

The stem's last convolution and every token aggregation is one. `forms.py` chooses:

- `conv`: an XLA convolution.
- `matmul`: patches laid out as rows, times the kernel as a matrix. On 2 CPU cores the gradients of
  such a convolution take three times as long.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from shunted_jax.models.initializers import conv_kernel_init
from shunted_jax.ops.dispatch import run_fastest
from shunted_jax.ops.product import product_narrow_first


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=kernel.shape[:2],
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    size, height, width = len(kernel), *x.shape[1:3]
    x = x[:, : height - height % size, : width - width % size]
    rows = rearrange(x, "b (h i) (w j) c -> b h w (i j c)", i=size, j=size)
    return product_narrow_first(rows, rearrange(kernel, "i j c d -> (i j c) d"))


FORMS = {"conv": _convolution, "matmul": _matrix_product}


def patch_conv(x: jax.Array, kernel: jax.Array, form: str | None = None) -> jax.Array:
    """Convolves without overlap or padding; rows and columns beyond a multiple are left out.

    Args:
        x: [batch, height, width, in_channels].
        kernel: [size, size, in_channels, out_channels], of x's dtype.
        form: a name in `FORMS`; None takes the backend's fastest.

    Returns:
        [batch, height // size, width // size, out_channels].

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    return run_fastest("patches", FORMS, x, kernel, form=form)


class PatchConv(nn.Module):
    """`patch_conv` with a learned kernel [size, size, in_channels, features] and bias."""

    features: int
    size: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, c] to [batch, height // size, width // size, features]."""
        kernel, bias = conv_parameters(self, (self.size, self.size, x.shape[-1], self.features))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return patch_conv(x, kernel) + bias


def conv_parameters(module: nn.Module, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Declares a `kernel` of this shape, [..., features], and a `bias` [features]."""
    kernel = module.param("kernel", conv_kernel_init, shape, module.param_dtype)
    bias = module.param("bias", nn.initializers.zeros, shape[-1:], module.param_dtype)
    return kernel, bias
