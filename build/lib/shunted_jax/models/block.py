"""The residual block (paper section 3): attention, then feed-forward, each behind a norm."""

from collections.abc import Callable

import jax
from flax import linen as nn

from shunted_jax.models.layers import BLOCK_NORM_EPSILON, DropPath, LayerNorm
from shunted_jax.models.numerics import Numerics


class Block(nn.Module):
    """Pre-norm residual unit: shunted self-attention, then the detail-specific feed-forward.

    Attributes:
        attention: makes the attention, given its `name`; a module of (x, train).
        mlp: makes the feed-forward, likewise.
        drop_path_rate: the probability to drop a sample's branch, of either.
    """

    attention: Callable[..., nn.Module]
    mlp: Callable[..., nn.Module]
    drop_path_rate: float = 0.0
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, dim] to the same shape."""
        y = LayerNorm(BLOCK_NORM_EPSILON, self.numerics, name="norm1")(x)
        y = self.attention(name="attention")(y, train=train)
        x = x + DropPath(self.drop_path_rate, name="drop_path1")(y, train=train)
        y = LayerNorm(BLOCK_NORM_EPSILON, self.numerics, name="norm2")(x)
        y = self.mlp(name="mlp")(y, train=train)
        return x + DropPath(self.drop_path_rate, name="drop_path2")(y, train=train)
