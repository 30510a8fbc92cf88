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

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from shunted_jax.ops.pallas.product import product

LANES = 128  # hidden channels at a time: a register's width, and that of the matrix unit


def forward_kernel(
    x_ref, fc1_ref, bias1_ref, taps_ref, bias_ref, fc2_ref, bias2_ref, out_ref, hidden_ref, sum_ref
):
    """For a tile and a chunk: the hidden map, then row by row its part of the output.

    Blocks of maps are [height, width, batch tile, dim]; `hidden_ref` has a border of zeros besides
    and `LANES` channels; `sum_ref`, [height, width x batch tile, dim], adds up over chunks.
    """
    chunk, last = pl.program_id(1), pl.num_programs(1) - 1

    @pl.when(chunk == 0)
    def _():
        _clear_border(hidden_ref)

    _fill_hidden(x_ref, fc1_ref, bias1_ref, hidden_ref)

    @pl.loop(0, x_ref.shape[0])
    def _(row):
        u = _with_details(hidden_ref, row, [taps_ref[tap] for tap in range(9)]) + bias_ref[0]
        activated = _flat(u * _normal_cdf(u)).astype(x_ref.dtype)
        part = product(activated, fc2_ref[...], (1, 0))
        start = jnp.where(chunk == 0, bias2_ref[...], sum_ref[row])
        _store_sum(out_ref, sum_ref, row, start + part, chunk == last)


def backward_kernel(
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
    """For a tile and a chunk: the hidden map again, u's gradient and fc2's, then x's and fc1's.

    Blocks as in `forward_kernel`, `du_ref` like `hidden_ref`. The gradients of weights have an axis
    of chunks in front, and those of biases and taps one of images, which is summed outside.
    """
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
        dfc2_ref[chunk] += product(_flat(u * cdf).astype(x_ref.dtype), dout, (0, 0))
        slope = cdf + u * jnp.exp(-0.5 * u * u) * (0.5 / jnp.pi) ** 0.5
        du = product(dout, fc2_ref[...], (1, 1)).reshape(width, batch, LANES) * slope
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
        dfc1_ref[chunk] += product(_flat(x_ref[row]), dy, (0, 0))
        start = jnp.where(chunk == 0, 0.0, sum_ref[row])
        part = product(dy, fc1_ref[...], (1, 1))
        _store_sum(dx_ref, sum_ref, row, start + part, chunk == last)


def _fill_hidden(x_ref, fc1_ref, bias1_ref, hidden_ref):
    """Writes x W1 + b1 inside the hidden map's border."""
    height, width, batch, _ = x_ref.shape

    @pl.loop(0, height)
    def _(row):
        y = product(_flat(x_ref[row]), fc1_ref[...], (1, 0)) + bias1_ref[...]
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
