"""TPU kernels of the detail-specific feed-forward that keep its wide hidden map on the chip.

    y = x W1 + b1,   u = y + DepthwiseConv3x3(y) + b,   out = GELU(u) W2 + b2

The hidden map y is 4 to 8 times as wide as x. As separate operations fc1, the convolution, GELU and
fc2 write it to memory and read it again, in both directions; here neither y nor u leaves VMEM, and
the backward kernel computes them again. Each channel of the hidden map goes through the convolution
on its own, so a kernel takes all of the map for a few images and 128 hidden channels at a time, and
adds up what they give: no tile needs its neighbours' edges.

Maps are [height, width, batch, channels] in here. Rows and columns are then not the axes that a TPU
register holds, images and channels are, and the convolution's nine shifts cost no data movement; it
is also how XLA likes to lay maps out. Sums are in float32; y and the gradient with respect to u are
kept in x's dtype.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # hidden channels at a time: a register's width, and that of the matrix unit


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
    x: jax.Array, weights: Weights, bias2: jax.Array, *, batch_tile: int, interpret: bool
) -> jax.Array:
    """Returns the feed-forward's output for a map.

    Args:
        x: [height, width, batch, dim].
        weights: hidden channels a multiple of `LANES`.
        bias2: [1, dim], float32.
        batch_tile: how many images at a time; it divides batch.
        interpret: run on any backend, slowly, for tests.

    Returns:
        [height, width, batch, dim], of x's dtype.
    """
    height, width, batch, dim = x.shape
    grid = (batch // batch_tile, weights.fc1.shape[1] // LANES)
    of_map = _map_spec(x, batch_tile)
    return pl.pallas_call(
        _forward_kernel,
        name="feed_forward",
        grid=grid,
        in_specs=[_once(of_map), *_weight_specs(dim), _whole_spec((1, dim))],
        out_specs=of_map,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        scratch_shapes=[
            pltpu.VMEM((height + 2, width + 2, batch_tile, LANES), x.dtype),
            pltpu.VMEM((height, width * batch_tile, dim), jnp.float32),
        ],
        compiler_params=_compiler_params(x, batch_tile, "parallel"),
        cost_estimate=_cost(x, weights, grid[0], maps=2, products=2, passes=1),
        interpret=interpret,
    )(x, *weights, bias2)


def feed_forward_gradients(
    x: jax.Array, dout: jax.Array, weights: Weights, *, batch_tile: int, interpret: bool
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
        _backward_kernel,
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
        compiler_params=_compiler_params(x, batch_tile, "arbitrary"),
        cost_estimate=_cost(x, weights, grid[0], maps=3, products=5, passes=3),
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


def vmem_bytes(shape: tuple[int, ...], dtype: jnp.dtype, batch_tile: int) -> int:
    """Returns about how much VMEM the backward kernel takes, which takes more than the forward.

    Args:
        shape: [height, width, batch, dim], the map's.
        dtype: the map's.
        batch_tile: how many images at a time.
    """
    height, width, _, dim = shape
    itemsize = jnp.dtype(dtype).itemsize
    of_map = height * width * batch_tile * -(-dim // LANES) * LANES
    of_hidden = (height + 2) * (width + 2) * batch_tile * LANES
    working_memory = 4 * 2**20  # a row's intermediate values, and weights
    # x, dout, twice dx (one is written to memory while the next is computed), its float32 sum; the
    # hidden map and its gradient.
    return of_map * (4 * itemsize + 4) + 2 * of_hidden * itemsize + working_memory


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


def _compiler_params(x: jax.Array, batch_tile: int, over_tiles: str) -> pltpu.CompilerParams:
    return pltpu.CompilerParams(
        dimension_semantics=(over_tiles, "arbitrary"),
        vmem_limit_bytes=vmem_bytes(x.shape, x.dtype, batch_tile) + 4 * 2**20,
    )


def _cost(
    x: jax.Array, weights: Weights, tiles: int, *, maps: int, products: int, passes: int
) -> pl.CostEstimate:
    """Returns what XLA is told: each map goes over once, the weights once for each tile.

    `products` of the two widths are matrix products, `passes` go through nine taps.
    """
    elements = x.size // x.shape[-1] * weights.fc1.shape[1]
    weight_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in weights)
    sums_bytes = 4 * sum(leaf.size for leaf in weights) if maps == 3 else 0
    return pl.CostEstimate(
        flops=elements * (2 * products * x.shape[-1] + 18 * passes),
        transcendentals=elements * (maps - 1),
        bytes_accessed=maps * x.size * x.dtype.itemsize + tiles * weight_bytes + sums_bytes,
    )


def _joined(chunks: jax.Array) -> jax.Array:
    """Maps [chunks, ..., LANES] to [..., hidden]."""
    return jnp.moveaxis(chunks, 0, -2).reshape(*chunks.shape[1:-1], -1)


def _forward_kernel(
    x_ref, fc1_ref, bias1_ref, taps_ref, bias_ref, fc2_ref, bias2_ref, out_ref, hidden_ref, sum_ref
):
    chunk, last = pl.program_id(1), pl.num_programs(1) - 1

    @pl.when(chunk == 0)
    def _():
        _clear_border(hidden_ref)

    _fill_hidden(x_ref, fc1_ref, bias1_ref, hidden_ref)

    @pl.loop(0, x_ref.shape[0])
    def _(row):
        u = _with_details(hidden_ref, row, [taps_ref[tap] for tap in range(9)]) + bias_ref[0]
        activated = _flat(u * _normal_cdf(u)).astype(x_ref.dtype)
        part = _product(activated, fc2_ref[...], (1, 0))
        start = jnp.where(chunk == 0, bias2_ref[...], sum_ref[row])
        _store_sum(out_ref, sum_ref, row, start + part, chunk == last)


def _backward_kernel(
    x_ref,
    dout_ref,
    fc1_ref,
    bias1_ref,
    taps_ref,
    bias_ref,
    fc2_ref,
    dx_ref,
    dfc1_ref,
    dbias1_ref,
    dtaps_ref,
    dbias_ref,
    dfc2_ref,
    hidden_ref,
    du_ref,
    sum_ref,
):
    height, width, batch, _ = x_ref.shape
    tile, chunk, last = pl.program_id(0), pl.program_id(1), pl.num_programs(1) - 1

    @pl.when(chunk == 0)
    def _():
        _clear_border(hidden_ref)
        _clear_border(du_ref)

    @pl.when(tile == 0)
    def _():
        for ref in (dfc1_ref, dbias1_ref, dtaps_ref, dbias_ref, dfc2_ref):
            ref[chunk] = jnp.zeros(ref.shape[1:], ref.dtype)

    _fill_hidden(x_ref, fc1_ref, bias1_ref, hidden_ref)

    @pl.loop(0, height)
    def _(row):
        u = _with_details(hidden_ref, row, [taps_ref[tap] for tap in range(9)]) + bias_ref[0]
        dout = _flat(dout_ref[row])
        cdf = _normal_cdf(u)
        dfc2_ref[chunk] += _product(_flat(u * cdf).astype(x_ref.dtype), dout, (0, 0))
        slope = cdf + u * jnp.exp(-0.5 * u * u) * (0.5 / jnp.pi) ** 0.5
        du = _product(dout, fc2_ref[...], (1, 1)).reshape(width, batch, LANES) * slope
        du_ref[row + 1, 1 : width + 1] = du.astype(du_ref.dtype)
        dbias_ref[chunk] += jnp.sum(du, axis=0)
        for tap in range(9):
            dtaps_ref[chunk, tap] += jnp.sum(_shifted(hidden_ref, row, tap) * du, axis=0)

    @pl.loop(0, height)
    def _(row):
        # The convolution's transpose is the convolution with the kernel turned around.
        dy = _with_details(du_ref, row, [taps_ref[8 - tap] for tap in range(9)])
        dbias1_ref[chunk] += jnp.sum(dy, axis=0)
        dy = _flat(dy).astype(x_ref.dtype)
        dfc1_ref[chunk] += _product(_flat(x_ref[row]), dy, (0, 0))
        start = jnp.where(chunk == 0, 0.0, sum_ref[row])
        part = _product(dy, fc1_ref[...], (1, 1))
        _store_sum(dx_ref, sum_ref, row, start + part, chunk == last)


def _fill_hidden(x_ref, fc1_ref, bias1_ref, hidden_ref):
    """Writes x W1 + b1 inside the hidden map's border."""
    height, width, batch, _ = x_ref.shape

    @pl.loop(0, height)
    def _(row):
        y = _product(_flat(x_ref[row]), fc1_ref[...], (1, 0)) + bias1_ref[...]
        y = y.reshape(width, batch, LANES).astype(hidden_ref.dtype)
        hidden_ref[row + 1, 1 : width + 1] = y


def _clear_border(map_ref):
    """Zeroes the rows and columns around a padded map, which the convolution reads."""
    rows, columns, *rest = map_ref.shape
    for row in (0, rows - 1):
        map_ref[row] = jnp.zeros((columns, *rest), map_ref.dtype)

    @pl.loop(0, rows)
    def _(row):
        for column in (0, columns - 1):
            map_ref[row, column] = jnp.zeros(rest, map_ref.dtype)


def _shifted(map_ref, row, tap):
    """Returns what `tap` of the convolution sees of a padded map for the outputs of one row."""
    width = map_ref.shape[1] - 2
    return map_ref[row + tap // 3, tap % 3 : tap % 3 + width].astype(jnp.float32)


def _with_details(map_ref, row, taps):
    """Returns one row of a padded map plus its depthwise convolution, float32."""
    # The centre's tap also carries the map itself.
    return sum(_shifted(map_ref, row, tap) * (taps[tap] + (tap == 4)) for tap in range(9))


def _store_sum(out_ref, sum_ref, row, total, is_last):
    """Keeps a row's sum over chunks of channels; the last chunk's is the output."""
    sum_ref[row] = total

    @pl.when(is_last)
    def _():
        out_ref[row] = total.reshape(out_ref.shape[1:]).astype(out_ref.dtype)


def _normal_cdf(u):
    return 0.5 + 0.5 * jax.lax.erf(u * 0.5**0.5)


def _flat(rows):
    return rows.reshape(-1, rows.shape[-1])


def _product(a, b, contracted):
    dimensions = (((contracted[0],), (contracted[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)
