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

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from shunted_jax.models.layers import EMBED_NORM_EPSILON
from shunted_jax.ops.attention import (
    attention_weights,
    dot_product_attention,
    weighted_values,
)
from shunted_jax.ops.depthwise import DepthwiseConv3x3
from shunted_jax.ops.gelu import gelu
from shunted_jax.ops.layer_norm import LayerNorm
from shunted_jax.ops.pallas.attention import fused_attend, is_fusible
from shunted_jax.ops.patches import PatchConv
from shunted_jax.ops.product import Dense


class TokenAggregation(nn.Module):
    """MTA(X, r): merges each r x r patch of tokens into one, GELU(LayerNorm(Conv(X))).

    The convolution's kernel and stride are r, without padding: rows and columns beyond a multiple
    of r, at the bottom and on the right, are left out. At r = 1 it still mixes channels.
    """

    ratio: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, height, width, dim] to [batch, height // ratio, width // ratio, dim]."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = PatchConv(x.shape[-1], self.ratio, name="conv", **dtypes)(x)
        return gelu(LayerNorm(epsilon=EMBED_NORM_EPSILON, name="norm", **dtypes)(x))


class Attend(nn.Module):
    """softmax(Q K^T / sqrt(d)) V for all heads of a group; the softmax is in float32.

    Attributes:
        num_heads: of the group.
        drop_rate: the probability to drop an attention weight.
        form: "fused" takes the kernel of `models/attend.py` where that applies.
    """

    num_heads: int
    drop_rate: float = 0.0
    form: str | None = None

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
        drops = train and self.drop_rate > 0
        if self.form == "fused" and not drops:
            q_flat, k_flat, v_flat = (rearrange(t, "b h w c -> b (h w) c") for t in (q, k, v))
            if is_fusible(q_flat, k_flat, self.num_heads):
                out = fused_attend(self.num_heads, q_flat, k_flat, v_flat)
                return rearrange(out, "b (h w) c -> b h w c", h=height)
        q, k, v = (rearrange(t, "b h w (n d) -> b (h w) n d", n=self.num_heads) for t in (q, k, v))
        if drops:
            weights = nn.Dropout(self.drop_rate, deterministic=False)(attention_weights(q, k))
            out = weighted_values(weights, v)
        else:
            out = dot_product_attention(q, k, v)
        return rearrange(out, "b (h w) n d -> b h w (n d)", h=height)


class HeadGroup(nn.Module):
    """One group of heads at r > 1: keys and values come from tokens aggregated r_i x r_i."""

    num_heads: int
    ratio: int
    qkv_bias: bool = True
    attn_drop_rate: float = 0.0
    depthwise_form: str | None = None
    attend_form: str | None = None
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

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
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        tokens = TokenAggregation(self.ratio, name="aggregation", **dtypes)(x)
        kv = Dense(2 * q.shape[-1], use_bias=self.qkv_bias, name="kv", **dtypes)(tokens)
        k, v = jnp.split(kv, 2, axis=-1)
        v = v + DepthwiseConv3x3(self.depthwise_form, name="local_enhancement", **dtypes)(v)
        attend = Attend(self.num_heads, self.attn_drop_rate, self.attend_form, name="attend")
        return attend(q, k, v, train=train)


class ShuntedSelfAttention(nn.Module):
    """Shunted self-attention over a map.

    Attributes:
        num_heads: heads in all; at sr_ratio > 1 an even number, the first half of them coarse.
        sr_ratio: r, the coarse group's reduction ratio; the fine group's is r / 2. At 1 all heads
            attend to the map itself.
        qkv_bias: whether the query and key-value projections have biases.
        drop_rate: the probability to drop an element of the output.
        attn_drop_rate: the probability to drop an attention weight.
        depthwise_form: the depthwise convolution's form; None takes the backend's fastest.
        attend_form: "fused" takes the kernel of `models/attend.py` where that applies.
    """

    num_heads: int
    sr_ratio: int
    qkv_bias: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    depthwise_form: str | None = None
    attend_form: str | None = None
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, dim] to the same shape."""
        dim = x.shape[-1]
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        q = Dense(dim, use_bias=self.qkv_bias, name="q", **dtypes)(x)

        if self.sr_ratio == 1:
            kv = Dense(2 * dim, use_bias=self.qkv_bias, name="kv", **dtypes)(x)
            k, v = jnp.split(kv, 2, axis=-1)
            attend = Attend(self.num_heads, self.attn_drop_rate, self.attend_form, name="attend")
            local_enhancement = DepthwiseConv3x3(
                self.depthwise_form, name="local_enhancement", **dtypes
            )
            out = attend(q, k, v, train=train) + local_enhancement(v)
        else:
            group = partial(
                HeadGroup,
                num_heads=self.num_heads // 2,
                qkv_bias=self.qkv_bias,
                attn_drop_rate=self.attn_drop_rate,
                depthwise_form=self.depthwise_form,
                attend_form=self.attend_form,
                **dtypes,
            )
            q_coarse, q_fine = jnp.split(q, 2, axis=-1)
            coarse = group(ratio=self.sr_ratio, name="coarse")(q_coarse, x, train=train)
            fine = group(ratio=self.sr_ratio // 2, name="fine")(q_fine, x, train=train)
            out = jnp.concatenate([coarse, fine], axis=-1)

        out = Dense(dim, name="proj", **dtypes)(out)
        return nn.Dropout(self.drop_rate, deterministic=not train)(out)
