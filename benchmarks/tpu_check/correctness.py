"""The rows of the kernels' comparisons, one for each shape and dtype."""

from collections.abc import Iterator
from functools import partial

import jax.numpy as jnp

from benchmarks.tpu_check.kernels import (
    TOLERANCES,
    Distances,
    compare_attention,
    compare_feed_forward,
)
from benchmarks.tpu_check.networks import case
from benchmarks.tpu_check.rows import Row, attempted
from benchmarks.tpu_check.shapes import FeedForwardShape, KernelShapes, kernel_shapes
from shunted_jax.ops.pallas.feed_forward import VMEM_BUDGET, batch_tile
from shunted_jax.ops.pallas.feed_forward_call import vmem_bytes

_IMAGES = 4  # of attention, whose grid takes one at a time
_TILE = 8  # images of a feed-forward in float32, which takes twice the memory


def attention_rows(small: bool) -> Iterator[Row]:
    """Yields a row for each shape of attention and dtype."""
    for shape in _shapes(small).attention:
        name = f"{shape.queries} queries, {shape.keys} keys, {shape.heads} x {shape.d} channels"
        for dtype in TOLERANCES:
            compare = partial(compare_attention, shape, _IMAGES, dtype, interpret=small)
            yield _row("attention", name, dtype, compare)


def feed_forward_rows(small: bool) -> Iterator[Row]:
    """Yields a row for each shape of the feed-forward and dtype."""
    batch = case(small).config.batch_size
    for whole in _shapes(small).feed_forward:
        for dtype in TOLERANCES:
            shape, tile = whole, _TILE
            if dtype == "bfloat16":
                tile = batch_tile((batch, *whole[:3]), whole.hidden_dim)
            else:
                shape = _fitting(whole, batch)
            name = f"{shape.height} x {shape.width} x {shape.dim}, hidden {shape.hidden_dim}"
            name += f", {batch} images by {tile}"
            compare = partial(compare_feed_forward, shape, batch, dtype, tile, interpret=small)
            yield _row("feed_forward", name, dtype, compare)


def _shapes(small: bool) -> KernelShapes:
    model, config, *_ = case(small)
    return kernel_shapes(model, *2 * (config.data.image_size,))


def _fitting(shape: FeedForwardShape, batch: int) -> FeedForwardShape:
    """Returns the shape with so many rows as fit on the chip in float32; rows are in no tile."""
    height, width, dim, hidden_dim = shape
    while vmem_bytes((height, width, batch, dim), hidden_dim, jnp.float32, _TILE) > VMEM_BUDGET:
        height //= 2
    return shape._replace(height=height)


def _row(part: str, name: str, dtype: str, compare) -> Row:
    name = f"{name}, {dtype}"
    return attempted(part, name, lambda: _judge(part, name, TOLERANCES[dtype], compare()))


def _judge(part: str, name: str, tolerance: float, distances: Distances) -> Row:
    found = f"kernel: {_in_words(distances.kernel)}; below {tolerance:.0e}"
    if distances.plain:
        found += f"; plain form: {_in_words(distances.plain)}"
    # NaN is not below, either.
    is_near = all(distance < tolerance for distance in distances.kernel.values())
    figures = {"kernel": distances.kernel, "plain": distances.plain, "tolerance": tolerance}
    return Row(part, name, "ok" if is_near else "wrong", found, figures)


def _in_words(distances: dict[str, float]) -> str:
    gradients = {array: distance for array, distance in distances.items() if array != "output"}
    worst = max(gradients, key=gradients.get)
    return f"values {distances['output']:.1e}, gradients {gradients[worst]:.1e} ({worst})"
