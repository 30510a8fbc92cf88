"""A stage of the network: residual blocks at one resolution (paper section 3)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.models.attention import ShuntedSelfAttention
from shunted_jax.models.layers import (
    BLOCK_NORM_EPSILON,
    DetailFeedForward,
    DropPath,
    OverlapPatchEmbed,
)
from shunted_jax.models.scan import scan_blocks
from shunted_jax.ops.layer_norm import LayerNorm


class Block(nn.Module):
    """Pre-norm residual unit: shunted self-attention, then the detail-specific feed-forward."""

    num_heads: int
    mlp_ratio: float
    sr_ratio: int
    qkv_bias: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    depthwise_form: str | None = None
    feed_forward_form: str | None = None
    attend_form: str | None = None
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [batch, height, width, dim] to the same shape."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        shared = {"drop_rate": self.drop_rate, "depthwise_form": self.depthwise_form, **dtypes}
        attention = ShuntedSelfAttention(
            self.num_heads,
            self.sr_ratio,
            qkv_bias=self.qkv_bias,
            attn_drop_rate=self.attn_drop_rate,
            attend_form=self.attend_form,
            name="attention",
            **shared,
        )
        mlp = DetailFeedForward(
            int(x.shape[-1] * self.mlp_ratio), form=self.feed_forward_form, name="mlp", **shared
        )

        y = LayerNorm(epsilon=BLOCK_NORM_EPSILON, name="norm1", **dtypes)(x)
        y = attention(y, train=train)
        x = x + DropPath(self.drop_path_rate, name="drop_path1")(y, train=train)
        y = LayerNorm(epsilon=BLOCK_NORM_EPSILON, name="norm2", **dtypes)(x)
        y = mlp(y, train=train)
        return x + DropPath(self.drop_path_rate, name="drop_path2")(y, train=train)


@nn.remat
def _rematerialized(block: Block, x: jax.Array) -> jax.Array:
    # A function of arrays alone: given to nn.remat itself, `train` would be traced.
    return block(x, train=True)


class Stage(nn.Module):
    """The blocks of one resolution: a patch embedding (stages after the first), blocks, a norm.

    Attributes:
        embed_dim: channels of the stage.
        block: makes a `Block` of this stage, given its `drop_path_rate` and `name`.
        drop_path_rates: one for each block.
        embed_patches: whether the input is the previous stage's map, not the stem's.
        remat: in training, compute each block again for the gradients instead of keeping it.
        scan_blocks: run the blocks as a loop, of which one block is compiled.
    """

    embed_dim: int
    block: Callable[..., Block]
    drop_path_rates: tuple[float, ...]
    embed_patches: bool = True
    remat: bool = False
    scan_blocks: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps the previous stage's map to this one's, [batch, height, width, embed_dim]."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if self.embed_patches:
            x = OverlapPatchEmbed(self.embed_dim, name="patch_embed", **dtypes)(x)
        blocks = [
            self.block(drop_path_rate=rate, name=f"blocks_{index}")
            for index, rate in enumerate(self.drop_path_rates)
        ]
        remat = self.remat and train
        if self.scan_blocks and len(blocks) > 1 and not self.is_initializing():
            x = scan_blocks(blocks, x, train=train, remat=remat)
        else:
            for block in blocks:
                x = _rematerialized(block, x) if remat else block(x, train=train)
        return LayerNorm(epsilon=BLOCK_NORM_EPSILON, name="norm", **dtypes)(x)
