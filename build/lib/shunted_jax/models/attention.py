"""Shunted self-attention (paper section 3): heads that see the same map at different scales.

With r the stage's reduction ratio, and i one of two groups of heads with ratios r_coarse = r and
r_fine = r / 2:

    Q_i      = X W_i^Q
    T_i      = MTA(X, r_i)                            multi-scale token aggregation
    K_i, V_i = T_i W_i^K, T_i W_i^V
    V_i      = V_i + LE(V_i)                          local enhancement, a depthwise convolution
    H_i      = softmax(Q_i K_i^T / sqrt(d)) V_i
    output   = [H_coarse, H_fine] W^O

The code keeps tokens on their map, [batch, height, width, channels], and flattens them only inside
the softmax. As in the published code, the first half of the heads is the coarse one, keys come
before values in the joint projection, and at r = 1 there is one group, whose local enhancement is
added to the attention's output instead of to V.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from shunted_jax.models.layers import EMBED_NORM_EPSILON, Conv, Dense, DepthwiseConv3x3, LayerNorm
from shunted_jax.models.numerics import Numerics
from shunted_jax.ops import pallas
from shunted_jax.ops.attention import attention_weights, dot_product_attention, weighted_values
from shunted_jax.ops.gelu import gelu


class TokenAggregation(nn.Module):
    """MTA(X, r): merges each r x r patch of tokens into one, GELU(LayerNorm(Conv(X))).

    The convolution's kernel and stride are r, without padding: rows and columns beyond a multiple
    of r, at the bottom and on the right, are left out. At r = 1 it still mixes channels.
    """

    ratio: int
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, dim] to [batch, height // ratio, width // ratio, dim]."""
        x = Conv(x.shape[-1], self.ratio, self.ratio, numerics=self.numerics, name="conv")(x)
        x = LayerNorm(EMBED_NORM_EPSILON, self.numerics, name="norm")(x)
        return gelu(x, compute=self.numerics.compute)


class Attend(nn.Module):
    """softmax(Q K^T / sqrt(d)) V for all heads of a group; the softmax is in float32.

    Attributes:
        num_heads: of the group.
        drop_rate: the probability to drop an attention weight.
    """

    num_heads: int
    drop_rate: float = 0.0
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(
        self, q: jax.Array, k: jax.Array, v: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """Maps the queries' map to the values seen from each of its positions.

        Args:
            q: [batch, height, width, channels], channels being num_heads x d.
            k: [batch, rows, columns, channels].
            v: [batch, rows, columns, channels].
            train: whether to drop attention weights, with stream `dropout`.

        Returns:
            [batch, height, width, channels].
        """
        height = q.shape[1]
        compute, precision = self.numerics.compute, self.numerics.precision
        q, k, v = (rearrange(t, "b h w (n d) -> b (h w) n d", n=self.num_heads) for t in (q, k, v))
        if compute == "pallas" and not self.is_initializing():
            pallas.refuse_dropout("attn_drop_rate", self.drop_rate, train)
            out = pallas.attention(q, k, v)
        elif train and self.drop_rate > 0:
            weights = attention_weights(q, k, precision=precision)
            weights = nn.Dropout(self.drop_rate, deterministic=False)(weights)
            out = weighted_values(weights, v, precision=precision)
        else:
            out = dot_product_attention(q, k, v, compute=compute, precision=precision)
        return rearrange(out, "b (h w) n d -> b h w (n d)", h=height)


class HeadGroup(nn.Module):
    """One group of heads at r > 1: keys and values come from tokens aggregated r_i x r_i.

    Attributes:
        ratio: r_i.
        kv: makes the joint projection to keys and values, given its width and `name`.
        attend: makes the attention of the group's heads, given its `name`.
    """

    ratio: int
    kv: Callable[..., nn.Module]
    attend: Callable[..., nn.Module]
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, q: jax.Array, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Attends from this group's queries to the aggregated map.

        Args:
            q: [batch, height, width, group_dim].
            x: [batch, height, width, dim], the attention's input.
            train: whether to drop attention weights.

        Returns:
            [batch, height, width, group_dim].
        """
        tokens = TokenAggregation(self.ratio, self.numerics, name="aggregation")(x)
        k, v = jnp.split(self.kv(2 * q.shape[-1], name="kv")(tokens), 2, axis=-1)
        v = v + DepthwiseConv3x3(self.numerics, name="local_enhancement")(v)
        return self.attend(name="attend")(q, k, v, train=train)


class ShuntedSelfAttention(nn.Module):
    """Shunted self-attention over a map.

    Attributes:
        num_heads: heads in all; at sr_ratio > 1 an even number, the first half of them coarse.
        sr_ratio: r, the coarse group's reduction ratio; the fine group's is r / 2. At 1 all heads
            attend to the map itself.
        qkv_bias: whether the query and key-value projections have biases.
        drop_rate: the probability to drop an element of the output.
        attn_drop_rate: the probability to drop an attention weight.
    """

    num_heads: int
    sr_ratio: int
    qkv_bias: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, dim] to the same shape."""
        dim = x.shape[-1]
        dense = partial(Dense, **self.numerics.of_dense)
        projection = partial(dense, use_bias=self.qkv_bias)
        attend = partial(Attend, drop_rate=self.attn_drop_rate, numerics=self.numerics)
        q = projection(dim, name="q")(x)

        if self.sr_ratio == 1:
            k, v = jnp.split(projection(2 * dim, name="kv")(x), 2, axis=-1)
            out = attend(self.num_heads, name="attend")(q, k, v, train=train)
            out = out + DepthwiseConv3x3(self.numerics, name="local_enhancement")(v)
        else:
            half_of_heads = partial(attend, self.num_heads // 2)
            group = partial(HeadGroup, kv=projection, attend=half_of_heads, numerics=self.numerics)
            q_coarse, q_fine = jnp.split(q, 2, axis=-1)
            coarse = group(self.sr_ratio, name="coarse")(q_coarse, x, train=train)
            fine = group(self.sr_ratio // 2, name="fine")(q_fine, x, train=train)
            out = jnp.concatenate([coarse, fine], axis=-1)

        out = dense(dim, name="proj")(out)
        return nn.Dropout(self.drop_rate, deterministic=not train)(out)
