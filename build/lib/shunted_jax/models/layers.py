"""Layers that the network is made of, with the published initial values.

All maps are [batch, height, width, channels].
"""

from functools import partial

import jax
from flax import linen as nn

from shunted_jax.models.initializers import (
    conv_kernel_init,
    depthwise_kernel_init,
    linear_kernel_init,
)
from shunted_jax.models.numerics import Numerics
from shunted_jax.ops.convolution import convolution
from shunted_jax.ops.depthwise import depthwise_conv3x3
from shunted_jax.ops.layer_norm import layer_norm

# The published model has two epsilons: this one in each block's `norm1` and `norm2` and after each
# stage; PyTorch's default in the stem, the patch embeddings and the token aggregation.
BLOCK_NORM_EPSILON = 1e-6
EMBED_NORM_EPSILON = 1e-5

Dense = partial(nn.Dense, kernel_init=linear_kernel_init)

# The fast variance, E[x^2] - E[x]^2, loses digits where the mean is large against the spread.
BatchNorm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5, use_fast_variance=False)


class LayerNorm(nn.Module):
    """Layer norm over the channels with a learned scale and bias, in float32 at least."""

    epsilon: float
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., channels] to the same shape, of `numerics.dtype`."""
        channels, numerics = x.shape[-1:], self.numerics
        scale = self.param("scale", nn.initializers.ones, channels, numerics.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, numerics.param_dtype)
        out = layer_norm(x, scale, bias, self.epsilon, compute=numerics.compute)
        return out.astype(numerics.dtype)


class Conv(nn.Module):
    """Convolution with a square kernel, padded by zeros on all four sides alike, as PyTorch does.

    XLA's `SAME` pads differently at stride 2. Rows and columns that a stride does not reach, at the
    bottom and on the right, are left out.
    """

    features: int
    size: int
    stride: int = 1
    padding: int = 0
    use_bias: bool = True
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, c] to [batch, rows, columns, features].

        There are (height + 2 padding - size) // stride + 1 rows, and columns likewise.
        """
        shape, numerics = (self.size, self.size, x.shape[-1], self.features), self.numerics
        kernel = self.param("kernel", conv_kernel_init, shape, numerics.param_dtype)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=numerics.dtype)
        out = convolution(
            x,
            kernel,
            stride=self.stride,
            padding=self.padding,
            compute=numerics.compute,
            precision=numerics.precision,
        )
        if not self.use_bias:
            return out
        bias = self.param("bias", nn.initializers.zeros, shape[-1:], numerics.param_dtype)
        return out + bias.astype(out.dtype)


class DepthwiseConv3x3(nn.Module):
    """Convolves each channel with its own 3x3 kernel, padded by 1, and adds a bias."""

    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to the same shape."""
        channels, numerics = x.shape[-1], self.numerics
        shape = (3, 3, 1, channels)
        kernel = self.param("kernel", depthwise_kernel_init, shape, numerics.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), numerics.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=numerics.dtype)
        out = depthwise_conv3x3(x, kernel, compute=numerics.compute, precision=numerics.precision)
        return out + bias


class DropPath(nn.Module):
    """Stochastic depth: zeroes a residual branch for whole samples, survivors scaled by 1 / keep.

    Attributes:
        rate: the probability to drop a sample's branch (not the keep rate).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, channels] to the same shape; draws from stream `dropout`."""
        return nn.Dropout(self.rate, broadcast_dims=(1, 2, 3))(x, deterministic=not train)
