"""The parts around the attention: stem, patch embedding, drop path, detail-specific feed-forward.

All maps are [batch, height, width, channels]. Convolutions pad explicitly and on both sides alike,
as PyTorch does; XLA's `SAME` pads differently at stride 2.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.models.initializers import depthwise_kernel_init, linear_kernel_init
from shunted_jax.ops.convolution import OverlappingConv
from shunted_jax.ops.feed_forward import detail_feed_forward, inner_step
from shunted_jax.ops.layer_norm import LayerNorm
from shunted_jax.ops.pallas.feed_forward import batch_tile, fused_feed_forward
from shunted_jax.ops.patches import PatchConv
from shunted_jax.ops.product import product
from shunted_jax.ops.strided import StridedConv3x3

# The published model has two epsilons: this one in each block's `norm1` and `norm2` and after each
# stage; PyTorch's default in the stem, the patch embeddings and the token aggregation.
BLOCK_NORM_EPSILON = 1e-6
EMBED_NORM_EPSILON = 1e-5

# The fast variance, E[x^2] - E[x]^2, loses digits where the mean is large against the spread.
BatchNorm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5, use_fast_variance=False)


class ConvStem(nn.Module):
    """Convolutional stem: images to the first stage's tokens at a quarter of the resolution.

    A 7x7 convolution with stride 2, `num_extra_convs` 3x3 ones, each followed by batch norm and
    ReLU, then a 2x2 convolution with stride 2 and layer norm (paper section 3, "patch embedding").
    """

    embed_dim: int
    num_extra_convs: int = 0
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, in_channels] to [batch, height/4, width/4, embed_dim]."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = images.astype(self.dtype)
        for index in range(1 + self.num_extra_convs):
            kernel_size, stride = (7, 2) if index == 0 else (3, 1)
            conv = partial(OverlappingConv, name=f"conv_{index}", **dtypes)
            x = conv(self.embed_dim, kernel_size, stride)(x)
            x = BatchNorm(use_running_average=not train, name=f"batch_norm_{index}", **dtypes)(x)
            x = nn.relu(x)
        x = PatchConv(self.embed_dim, 2, name="reduce", **dtypes)(x)
        return LayerNorm(epsilon=EMBED_NORM_EPSILON, name="norm", **dtypes)(x)


class OverlapPatchEmbed(nn.Module):
    """Patch embedding between stages: 3x3 convolution with stride 2, then layer norm.

    An odd side is halved upwards.
    """

    embed_dim: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, in_dim] to [batch, height/2, width/2, embed_dim]."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = StridedConv3x3(self.embed_dim, name="proj", **dtypes)(x)
        return LayerNorm(epsilon=EMBED_NORM_EPSILON, name="norm", **dtypes)(x)


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


def drop_path(key: jax.Array, x: jax.Array, rate: jax.Array) -> jax.Array:
    """Returns what `DropPath` does in training; `rate` is an array, which `nn.Dropout` refuses.

    Args:
        key: decides which samples' branches are dropped.
        x: [batch, height, width, channels].
        rate: float32 [], the probability to drop a sample's branch, in [0, 1).
    """
    keep = 1 - rate
    kept = jax.random.bernoulli(key, keep, (len(x), 1, 1, 1))
    return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros_like(x))


class LayerParameters(nn.Module):
    """Declares the kernel and the bias of a layer that the module above it computes."""

    kernel_shape: tuple[int, ...]
    kernel_init: nn.initializers.Initializer
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def get(self) -> dict[str, jax.Array]:
        """Returns {"kernel": [..., features], "bias": [features]}, the bias of zeros at first."""
        features = self.kernel_shape[-1:]
        return {
            "kernel": self.param("kernel", self.kernel_init, self.kernel_shape, self.param_dtype),
            "bias": self.param("bias", nn.initializers.zeros, features, self.param_dtype),
        }


class DetailFeedForward(nn.Module):
    """Detail-specific feed-forward: fc2(GELU(y + DepthwiseConv3x3(y))) with y = fc1(x), section 3.

    The three layers are computed as one; `capture_intermediates` sees the result alone.

    Attributes:
        hidden_dim: the width between the two linear maps.
        drop_rate: the probability to drop an element after GELU and after `fc2`.
        depthwise_form: a form in `models/detail.py`, of all three layers together; None takes the
            backend's fastest.
        form: "fused" takes the kernel of `models/feed_forward.py` where that applies.
    """

    hidden_dim: int
    drop_rate: float = 0.0
    depthwise_form: str | None = None
    form: str | None = None
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, dim] to the same shape."""
        params = self._parameters(x.shape[-1])
        drops = train and self.drop_rate > 0
        if self.form == "fused" and not drops:
            tile = batch_tile(x.shape, self.hidden_dim, self.dtype)
            if tile:
                return fused_feed_forward(tile, x, params)
        x, params = jax.tree.map(lambda leaf: leaf.astype(self.dtype), (x, params))
        if not drops:
            return detail_feed_forward(x, params, self.depthwise_form)
        dropout = partial(nn.Dropout, self.drop_rate, deterministic=False)
        y = product(x, params["fc1"]["kernel"]) + params["fc1"]["bias"]
        y = dropout()(inner_step(y, params["depthwise"], self.depthwise_form))
        return dropout()(product(y, params["fc2"]["kernel"]) + params["fc2"]["bias"])

    def _parameters(self, dim: int) -> dict[str, dict[str, jax.Array]]:
        layers = {
            "fc1": ((dim, self.hidden_dim), linear_kernel_init),
            "depthwise": ((3, 3, 1, self.hidden_dim), depthwise_kernel_init),
            "fc2": ((self.hidden_dim, dim), linear_kernel_init),
        }
        return {
            name: LayerParameters(shape, init, self.param_dtype, name=name).get()
            for name, (shape, init) in layers.items()
        }
