"""The detail-specific feed-forward (paper section 3)."""

from functools import partial

import jax
from flax import linen as nn

from shunted_jax.models.layers import Dense, DepthwiseConv3x3
from shunted_jax.models.numerics import Numerics
from shunted_jax.ops import pallas
from shunted_jax.ops.gelu import gelu


class DetailFeedForward(nn.Module):
    """fc2(GELU(y + DepthwiseConv3x3(y))) with y = fc1(x).

    Attributes:
        hidden_dim: the width between the two linear maps.
        drop_rate: the probability to drop an element after GELU and after `fc2`.
    """

    hidden_dim: int
    drop_rate: float = 0.0
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, dim] to the same shape."""
        if self.numerics.compute == "pallas" and not self.is_initializing():
            pallas.refuse_dropout("drop_rate", self.drop_rate, train)
            return pallas.feed_forward(x.astype(self.numerics.dtype), self.variables["params"])
        dense = partial(Dense, **self.numerics.of_dense)
        dropout = partial(nn.Dropout, self.drop_rate, deterministic=not train)
        y = dense(self.hidden_dim, name="fc1")(x)
        y = y + DepthwiseConv3x3(self.numerics, name="depthwise")(y)
        y = dropout()(gelu(y, compute=self.numerics.compute))
        return dropout()(dense(x.shape[-1], name="fc2")(y))
