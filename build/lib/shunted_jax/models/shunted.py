"""The Shunted Transformer (arXiv 2111.15193): the whole network.

Differences from the published PyTorch code: maps stay [batch, height, width, channels] throughout,
the stem is not called a head, and with `dtype=bfloat16` the parameters, the norms' statistics, the
softmax and the logits stay float32. At float32 the outputs agree to rounding. Batch norm's running
variance takes in the biased variance of n values, as Flax's does; PyTorch's takes in the unbiased
one, larger by a factor of n / (n - 1).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce
from flax import linen as nn

from shunted_jax.models.attention import ShuntedSelfAttention
from shunted_jax.models.block import Block
from shunted_jax.models.embedding import ConvStem
from shunted_jax.models.fields import STAGE_FIELDS, check_fields, check_images, refuse_retired
from shunted_jax.models.layers import Dense
from shunted_jax.models.mlp import DetailFeedForward
from shunted_jax.models.numerics import Numerics
from shunted_jax.models.stage import Stage


class ShuntedTransformer(nn.Module):
    """Shunted Transformer: an image classifier, and a backbone with one feature map a stage.

    There are no position embeddings: images of any size work, square or not, from
    `min_image_size` up. Images are floating point and already normalised.

    Attributes:
        depths: blocks in each stage; its length is the number of stages.
        embed_dims: channels of each stage.
        num_heads: attention heads of each stage; even where the stage's ratio is above 1.
        mlp_ratios: the feed-forward's hidden width over the stage's width.
        sr_ratios: the coarse heads' reduction ratio r of each stage: 1 or even.
        num_stem_convs: 3x3 convolutions in the stem beyond the published T's.
        num_classes: outputs of the head; 0 leaves the head out and gives pooled features.
        in_channels: channels of the images.
        qkv_bias: whether the query and key-value projections have biases.
        drop_rate: the probability to drop an element after projections; 0 in every recipe.
        attn_drop_rate: the probability to drop an attention weight; 0 in every recipe.
        drop_path_rate: the last block's probability to drop a sample's branch; it rises linearly
            from 0 at the first block.
        compute: how it is computed, with the same parameters and, to rounding, the same results:
            "auto" takes what is fastest on the platform that a program is for; "reference" is plain
            JAX, the form to read and to change; "pallas" takes the TPU kernels of `ops/pallas` and
            raises where they cannot apply.
        remat: in training, keep of each block only its input, and compute the rest again for the
            gradients: less memory for about a third more work, and the same parameters.
        scan_blocks: run each stage's blocks as a loop, of which one block is compiled: with the
            same parameters, draws and, within rounding, results. docs/performance.md says when that
            compiles sooner. Of what is within its blocks, `capture_intermediates` sees nothing.
        dtype: of the computation; logits are float32 all the same.
        param_dtype: of the parameters.
        precision: of float32 products, a `jax.lax.Precision` or its name in small letters.
            None leaves them to `jax.default_matmul_precision`, which by default takes TF32 on a GPU
            and bfloat16 on a TPU. With "highest" they are of float32 on every platform.

    Raises:
        ValueError: when made, if fields contradict each other; when called, if the images do not
            fit.
    """

    depths: tuple[int, ...]
    embed_dims: tuple[int, ...] = (64, 128, 256, 512)
    num_heads: tuple[int, ...] = (2, 4, 8, 16)
    mlp_ratios: tuple[float, ...] = (8, 8, 4, 4)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    num_stem_convs: int = 0
    num_classes: int = 1000
    in_channels: int = 3
    qkv_bias: bool = True
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    compute: str = "auto"
    remat: bool = False
    scan_blocks: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    precision: jax.lax.PrecisionLike = None

    def __new__(cls, *args, **fields):  # noqa: D102
        del args
        refuse_retired(fields)
        return super().__new__(cls)

    def __post_init__(self):
        for name in STAGE_FIELDS:  # lists, as JSON gives them, would leave the module unhashable
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_fields(self)
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one step on each stage's map: 4, 8, 16, 32."""
        return tuple(4 * 2**stage for stage in range(len(self.depths)))

    @property
    def min_image_size(self) -> int:
        """The smallest side in pixels that leaves a coarse token in every stage; published: 32."""
        return max(stride * r for stride, r in zip(self.strides, self.sr_ratios, strict=True))

    def setup(self):  # noqa: D102
        numerics = self.numerics
        self.stem = ConvStem(self.embed_dims[0], self.num_stem_convs, numerics)
        ends = np.cumsum(self.depths).tolist()
        rates = np.linspace(0, self.drop_path_rate, ends[-1]).tolist()
        self.stages = [
            Stage(
                self.embed_dims[index],
                self.block(index),
                tuple(rates[end - depth : end]),
                embed_patches=index > 0,
                remat=self.remat,
                scan_blocks=self.scan_blocks,
                numerics=numerics,
            )
            for index, (depth, end) in enumerate(zip(self.depths, ends, strict=True))
        ]
        if self.num_classes:
            dense = partial(Dense, **numerics.of_dense)
            self.head = dense(self.num_classes, dtype=jnp.float32)

    @property
    def numerics(self) -> Numerics:
        """How every module of the network computes."""
        return Numerics(self.dtype, self.param_dtype, self.compute, self.precision)

    def block(self, stage: int) -> partial:
        """Returns what makes a block of a stage, given its `drop_path_rate` and `name`."""
        numerics = self.numerics
        attention = partial(
            ShuntedSelfAttention,
            self.num_heads[stage],
            self.sr_ratios[stage],
            qkv_bias=self.qkv_bias,
            drop_rate=self.drop_rate,
            attn_drop_rate=self.attn_drop_rate,
            numerics=numerics,
        )
        hidden_dim = int(self.embed_dims[stage] * self.mlp_ratios[stage])
        mlp = partial(DetailFeedForward, hidden_dim, drop_rate=self.drop_rate, numerics=numerics)
        return partial(Block, attention, mlp, numerics=numerics)

    def features(self, images: jax.Array, *, train: bool = False) -> tuple[jax.Array, ...]:
        """Returns every stage's feature map, after its norm.

        Args:
            images: [batch, height, width, in_channels], floating point, normalised.
            train: batch norm takes the batch's statistics, and drop rates apply.

        Returns:
            [batch, height/stride, width/stride, embed_dim] for each stage, at strides 4, 8, 16, 32.

        Raises:
            ValueError: images of a wrong rank, type, channel count, or too small.
        """
        check_images(images, self.in_channels, self.min_image_size)
        maps = []
        x = self.stem(images, train=train)
        for stage in self.stages:
            x = stage(x, train=train)
            maps.append(x)
        return tuple(maps)

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns class logits, or pooled features where `num_classes` is 0.

        Args:
            images: [batch, height, width, in_channels], floating point, normalised.
            train: batch norm takes the batch's statistics (make `batch_stats` mutable), and drop
                rates apply (give the stream `dropout`).

        Returns:
            [batch, num_classes], or [batch, embed_dims[-1]]; float32.

        Raises:
            ValueError: images of a wrong rank, type, channel count, or too small.
        """
        last_map = self.features(images, train=train)[-1]
        pooled = reduce(last_map.astype(jnp.float32), "b h w c -> b c", "mean")
        return self.head(pooled) if self.num_classes else pooled
