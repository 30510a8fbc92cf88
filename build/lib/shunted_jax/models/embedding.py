"""From images to tokens, and from one stage's resolution to the next one's (paper section 3)."""

from functools import partial

import jax
from flax import linen as nn

from shunted_jax.models.layers import EMBED_NORM_EPSILON, BatchNorm, Conv, LayerNorm
from shunted_jax.models.numerics import Numerics


class ConvStem(nn.Module):
    """Convolutional stem: images to the first stage's tokens at a quarter of the resolution.

    A 7x7 convolution with stride 2, `num_extra_convs` 3x3 ones, each followed by batch norm and
    ReLU, then a 2x2 convolution with stride 2 and layer norm (paper section 3, "patch embedding").
    """

    embed_dim: int
    num_extra_convs: int = 0
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, in_channels] to [batch, height/4, width/4, embed_dim]."""
        conv = partial(Conv, self.embed_dim, numerics=self.numerics)
        batch_norm = partial(BatchNorm, use_running_average=not train, **self.numerics.dtypes)
        x = images.astype(self.numerics.dtype)
        for index in range(1 + self.num_extra_convs):
            size, stride = (7, 2) if index == 0 else (3, 1)
            x = conv(size, stride, size // 2, use_bias=False, name=f"conv_{index}")(x)
            x = nn.relu(batch_norm(name=f"batch_norm_{index}")(x))
        x = conv(2, stride=2, name="reduce")(x)
        return LayerNorm(EMBED_NORM_EPSILON, self.numerics, name="norm")(x)


class OverlapPatchEmbed(nn.Module):
    """Patch embedding between stages: 3x3 convolution with stride 2, then layer norm.

    An odd side is halved upwards.
    """

    embed_dim: int
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, in_dim] to [batch, height/2, width/2, embed_dim]."""
        x = Conv(self.embed_dim, 3, stride=2, padding=1, numerics=self.numerics, name="proj")(x)
        return LayerNorm(EMBED_NORM_EPSILON, self.numerics, name="norm")(x)
