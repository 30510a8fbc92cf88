"""Small shapes that the kernels tile as they do those of the published networks.

What decides how a kernel is laid out is how many units an axis has, and what is over. Units are a
register's: 128 lanes across, 16 rows of bfloat16 down. A kernel meets a first, an inner and a last
unit, whole or partial. So 3,136 queries, 24 x 128 + 64, are in one class with 2 x 128 + 64: the
remainder is kept, and whole units beyond two are left out.

- Attention: queries lie across, keys down. Channels lie down where queries lie across, and across
  where keys lie down: it takes 128 / d heads of d channels to fill a register. Each image is a step
  of the grid: of two there is a first and a last, one for each of two cores.
- Feed-forward: a map's rows and columns lie in no register. First, inner and last ones are all that
  there are; three rows and four columns also tell rows from columns. Channels lie across, hidden
  ones as chunks of 128, each a step of the grid. Images lie down, a tile's at a time, each tile a
  step of the grid: a first, an inner and a last.

What a TPU has in the lanes that an array does not fill, the interpreter cannot show. It lets nobody
read or write there; `make tpu-check` runs the whole shapes on a TPU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.tpu_check.shapes import AttentionShape, FeedForwardShape
from shunted_jax.ops import pallas
from shunted_jax.ops.pallas.feed_forward import batch_tile

LANES, ROWS = 128, 16  # of a register of bfloat16
IMAGES = 2  # of attention


class TiledFeedForward(NamedTuple):
    """A feed-forward's shape, how many images the kernel takes at a time, and how often."""

    shape: FeedForwardShape
    tile: int
    tiles: int


def attention_class(shape: AttentionShape) -> AttentionShape:
    """Returns the smallest shape of the same class.

    Raises:
        UserError: the kernels refuse the shape.
    """
    queries, keys, heads, d = shape
    q, k = (jax.ShapeDtypeStruct((1, n, heads, d), jnp.bfloat16) for n in (queries, keys))
    jax.eval_shape(pallas.attention, q, k, k)
    return AttentionShape(_fewer(queries, LANES), _fewer(keys, ROWS), _fewer(heads, LANES // d), d)


def feed_forward_class(shape: FeedForwardShape, batch: int) -> TiledFeedForward:
    """Returns the smallest shape of the same class for a device's batch; raises alike."""
    height, width, dim, hidden_dim = shape
    tile = batch_tile((batch, height, width, dim), hidden_dim)
    small = min(height, 3), min(width, 4), _fewer(dim, LANES), _fewer(hidden_dim, LANES)
    return TiledFeedForward(FeedForwardShape(*small), _fewer(tile, ROWS), min(batch // tile, 3))


def _fewer(size: int, unit: int) -> int:
    return size % unit + unit * min(size // unit, 2)
