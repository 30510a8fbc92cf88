"""How the feed-forward's TPU kernels are called: tiles, memory on the chip, cost for XLA."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from shunted_jax.ops.pallas.feed_forward_kernel import LANES, backward_kernel, forward_kernel
from shunted_jax.ops.pallas.limits import Interpreter


class Weights(NamedTuple):
    """What the kernels are given besides maps; `fc1` and `fc2` in the maps' dtype, else float32.

    Attributes:
        fc1: [dim, hidden].
        bias1: [1, hidden].
        taps: [9, hidden], the depthwise kernel row by row.
        bias: [1, hidden], the depthwise convolution's.
        fc2: [hidden, dim].
    """

    fc1: jax.Array
    bias1: jax.Array
    taps: jax.Array
    bias: jax.Array
    fc2: jax.Array


def feed_forward(
    x: jax.Array, weights: Weights, bias2: jax.Array, *, batch_tile: int, interpret: Interpreter
) -> jax.Array:
    """Returns the feed-forward's output for a map.

    Args:
        x: [height, width, batch, dim].
        weights: hidden channels a multiple of `LANES`.
        bias2: [1, dim], float32.
        batch_tile: how many images at a time; it divides batch.
        interpret: as `pl.pallas_call` takes it, for tests.

    Returns:
        [height, width, batch, dim], of x's dtype.
    """
    height, width, batch, dim = x.shape
    grid = (batch // batch_tile, weights.fc1.shape[1] // LANES)
    of_map = _map_spec(x, batch_tile)
    return pl.pallas_call(
        forward_kernel,
        name="feed_forward",
        grid=grid,
        in_specs=[_once(of_map), *_weight_specs(dim), _whole_spec((1, dim))],
        out_specs=of_map,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        scratch_shapes=[
            pltpu.VMEM((height + 2, width + 2, batch_tile, LANES), x.dtype),
            pltpu.VMEM((height, width * batch_tile, dim), jnp.float32),
        ],
        compiler_params=_compiler_params(x, weights, batch_tile, "parallel"),
        cost_estimate=_cost(x, weights, grid[0], backward=False),
        interpret=interpret,
    )(x, *weights, bias2)


def feed_forward_gradients(
    x: jax.Array, dout: jax.Array, weights: Weights, *, batch_tile: int, interpret: Interpreter
) -> tuple[jax.Array, Weights]:
    """Returns the gradients with respect to x, in its dtype, and to the weights, in float32.

    Args:
        x: [height, width, batch, dim].
        dout: like x, the gradient with respect to the output.
        weights: as for `feed_forward`.
        batch_tile: likewise.
        interpret: likewise.
    """
    height, width, batch, dim = x.shape
    hidden = weights.fc1.shape[1]
    grid = (batch // batch_tile, hidden // LANES)
    of_map = _map_spec(x, batch_tile)
    # The sums over all images stay in VMEM from the first tile to the last. Biases and taps are
    # summed over a register's rows only at the end, outside.
    sums = Weights(
        fc1=(grid[1], dim, LANES),
        bias1=(grid[1], batch_tile, LANES),
        taps=(grid[1], 9, batch_tile, LANES),
        bias=(grid[1], batch_tile, LANES),
        fc2=(grid[1], LANES, dim),
    )
    padded = (height + 2, width + 2, batch_tile, LANES)
    dx, *sums = pl.pallas_call(
        backward_kernel,
        name="feed_forward_gradients",
        grid=grid,
        in_specs=[_once(of_map), _once(of_map), *_weight_specs(dim)],
        out_specs=[of_map, *map(_whole_spec, sums)],
        out_shape=[
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in sums),
        ],
        scratch_shapes=[
            pltpu.VMEM(padded, x.dtype),
            pltpu.VMEM(padded, x.dtype),
            pltpu.VMEM((height, width * batch_tile, dim), jnp.float32),
        ],
        compiler_params=_compiler_params(x, weights, batch_tile, "arbitrary"),
        cost_estimate=_cost(x, weights, grid[0], backward=True),
        interpret=interpret,
    )(x, dout, *weights)
    sums = Weights(*sums)
    gradients = Weights(
        fc1=_joined(sums.fc1),
        bias1=_joined(sums.bias1).sum(0, keepdims=True),
        taps=_joined(sums.taps).sum(1),
        bias=_joined(sums.bias).sum(0, keepdims=True),
        fc2=sums.fc2.reshape(hidden, dim),
    )
    return dx, gradients


def vmem_bytes(shape: tuple[int, ...], hidden_dim: int, dtype: jnp.dtype, batch_tile: int) -> int:
    """Returns about how much VMEM the backward kernel takes, which takes more than the forward.

    Args:
        shape: [height, width, batch, dim], the map's.
        hidden_dim: channels of the hidden map.
        dtype: the map's.
        batch_tile: how many images at a time.
    """
    height, width, _, dim = shape
    itemsize = jnp.dtype(dtype).itemsize
    padded_dim = -(-dim // LANES) * LANES
    of_map = height * width * batch_tile * padded_dim
    of_hidden = (height + 2) * (width + 2) * batch_tile * LANES
    # x, dout, twice dx (one is written to memory while the next is computed), its float32 sum; the
    # hidden map and its gradient; twice the weights' gradients; a row's values on the way.
    return (
        of_map * (4 * itemsize + 4)
        + 2 * of_hidden * itemsize
        + 2 * 4 * 2 * padded_dim * hidden_dim
        + 4 * 2**20
    )


def _map_spec(x: jax.Array, batch_tile: int) -> pl.BlockSpec:
    height, width, _, dim = x.shape
    return pl.BlockSpec((height, width, batch_tile, dim), lambda tile, chunk: (0, 0, tile, 0))


def _whole_spec(shape: tuple[int, ...]) -> pl.BlockSpec:
    return pl.BlockSpec(shape, lambda tile, chunk: (0,) * len(shape))


def _once(spec: pl.BlockSpec) -> pl.BlockSpec:
    # One buffer instead of two: the kernel computes on a tile for far longer than it is read.
    return pl.BlockSpec(spec.block_shape, spec.index_map, pipeline_mode=pl.Buffered(1))


def _weight_specs(dim: int) -> list[pl.BlockSpec]:
    def across(rows: int) -> pl.BlockSpec:
        return pl.BlockSpec((rows, LANES), lambda tile, chunk: (0, chunk))

    fc2 = pl.BlockSpec((LANES, dim), lambda tile, chunk: (chunk, 0))
    return list(Weights(across(dim), across(1), across(9), across(1), fc2))


def _compiler_params(
    x: jax.Array, weights: Weights, batch_tile: int, over_tiles: str
) -> pltpu.CompilerParams:
    needed = vmem_bytes(x.shape, weights.fc1.shape[1], x.dtype, batch_tile)
    return pltpu.CompilerParams(
        dimension_semantics=(over_tiles, "arbitrary"),
        vmem_limit_bytes=needed + 4 * 2**20,
    )


def _cost(x: jax.Array, weights: Weights, tiles: int, *, backward: bool) -> pl.CostEstimate:
    """Returns what XLA is told: each map goes over once, the weights once for each tile."""
    # Matrix products of the two widths, ways through the nine taps, erf and exp, maps.
    products, convolutions, functions, maps = (5, 3, 2, 3) if backward else (2, 1, 1, 2)
    elements = x.size // x.shape[-1] * weights.fc1.shape[1]
    weight_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in weights)
    gradient_bytes = 4 * sum(leaf.size for leaf in weights) if backward else 0
    return pl.CostEstimate(
        flops=elements * (2 * products * x.shape[-1] + 18 * convolutions),
        transcendentals=elements * functions,
        bytes_accessed=maps * x.size * x.dtype.itemsize + tiles * weight_bytes + gradient_bytes,
    )


def _joined(chunks: jax.Array) -> jax.Array:
    """Maps [chunks, ..., LANES] to [..., hidden]."""
    return jnp.moveaxis(chunks, 0, -2).reshape(*chunks.shape[1:-1], -1)
