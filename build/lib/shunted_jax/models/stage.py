"""A stage of the network: residual blocks at one resolution (paper section 3)."""

from collections.abc import Callable

import jax
from flax import linen as nn

from shunted_jax.models.block import Block
from shunted_jax.models.embedding import OverlapPatchEmbed
from shunted_jax.models.layers import BLOCK_NORM_EPSILON, LayerNorm
from shunted_jax.models.numerics import Numerics
from shunted_jax.models.scan import scan_blocks


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
    numerics: Numerics = Numerics()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps the previous stage's map to this one's, [batch, height, width, embed_dim]."""
        if self.embed_patches:
            x = OverlapPatchEmbed(self.embed_dim, self.numerics, name="patch_embed")(x)
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
        return LayerNorm(BLOCK_NORM_EPSILON, self.numerics, name="norm")(x)


@nn.remat
def _rematerialized(block: Block, x: jax.Array) -> jax.Array:
    # A function of arrays alone: given to nn.remat itself, `train` would be traced.
    return block(x, train=True)
