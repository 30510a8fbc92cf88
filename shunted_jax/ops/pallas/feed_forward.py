"""The detail-specific feed-forward as one TPU kernel each way, for programs on any mesh.

It computes what the separate operations in `layers.DetailFeedForward` do, which stay the reference:
in float32 to rounding, and in bfloat16 with fewer roundings. `feed_forward_kernel.py` has the
kernels, and docs/performance_tpu.md what they save.

The kernels were compiled for TPUs and checked in Pallas's interpreter. They have not run on a TPU:
what is known is how many bytes they move, not how long they take. So nobody gets them who did not
ask for them.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from shunted_jax.ops.pallas import feed_forward_call as kernels
from shunted_jax.ops.pallas.feed_forward_kernel import LANES
from shunted_jax.ops.pallas.on_each_device import batch_devices, on_each_device

# A v5p core has 64 MiB of VMEM, v5e and v6e twice as much; the compiler wants some for itself.
_VMEM_BUDGET = 56 * 2**20
# A register holds 8 rows, a batch's images here; a row of the map gives about 450 rows to the
# matrix unit at a time, enough to keep it busy.
_SUBLANES = 8
_ROWS_AT_A_TIME = 512


def batch_tile(shape: tuple[int, ...], hidden_dim: int, dtype: jnp.dtype) -> int | None:
    """Returns how many images the kernels take at a time; None where they do not apply.

    Args:
        shape: [batch, height, width, dim], the map's, the batch being all devices'.
        hidden_dim: channels of the hidden map.
        dtype: the map's.
    """
    batch, height, width, dim = shape
    devices = batch_devices()
    if dtype != jnp.bfloat16 or hidden_dim % LANES or batch % devices:
        return None
    tile, fitting = _SUBLANES, None
    while (batch // devices) % tile == 0:
        map_shape = (height, width, batch // devices, dim)
        if kernels.vmem_bytes(map_shape, hidden_dim, dtype, tile) > _VMEM_BUDGET:
            break
        if fitting and width * tile > _ROWS_AT_A_TIME:
            break
        tile, fitting = 2 * tile, tile
    return fitting


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def fused_feed_forward(tile: int, x: jax.Array, params: dict[str, Any]) -> jax.Array:
    """Returns fc2(GELU(y + DepthwiseConv3x3(y))) with y = fc1(x).

    Only x and the parameters are kept for the gradients. Under a mesh (`jax.set_mesh` and the
    like), the batch is taken to be split over all its axes.

    Args:
        tile: as `batch_tile` returns it.
        x: [batch, height, width, dim].
        params: of `layers.DetailFeedForward`.

    Returns:
        [batch, height, width, dim], of x's dtype.
    """

    def forward(maps, weights, interpret):
        (x,), (weights, bias2) = map(_to_kernel, maps), weights
        out = kernels.feed_forward(x, weights, bias2, batch_tile=tile, interpret=interpret)
        return _from_kernel(out), ()

    bias2 = params["fc2"]["bias"].astype(jnp.float32)[None]
    out, _ = on_each_device(forward, (x,), (_weights(params, x.dtype), bias2))
    return out


def _forward(tile, x, params):
    return fused_feed_forward(tile, x, params), (x, params)


def _backward(tile, kept, dout):
    x, params = kept

    def backward(maps, weights, interpret):
        x, dout = map(_to_kernel, maps)
        dx, gradients = kernels.feed_forward_gradients(
            x, dout, weights, batch_tile=tile, interpret=interpret
        )
        dbias2 = jnp.sum(dout, axis=(0, 1, 2), dtype=jnp.float32)
        return _from_kernel(dx), (gradients, dbias2)

    weights = _weights(params, x.dtype)
    dx, (gradients, dbias2) = on_each_device(backward, (x, dout), weights)
    dparams = {
        "fc1": {"kernel": gradients.fc1, "bias": gradients.bias1[0]},
        "depthwise": {
            "kernel": gradients.taps.reshape(params["depthwise"]["kernel"].shape),
            "bias": gradients.bias[0],
        },
        "fc2": {"kernel": gradients.fc2, "bias": dbias2},
    }
    return dx, jax.tree.map(lambda grad, leaf: grad.astype(leaf.dtype), dparams, params)


fused_feed_forward.defvjp(_forward, _backward)


def _weights(params: dict[str, Any], dtype: jnp.dtype) -> kernels.Weights:
    fc1, depthwise, fc2 = params["fc1"], params["depthwise"], params["fc2"]
    return kernels.Weights(
        fc1=fc1["kernel"].astype(dtype),
        bias1=fc1["bias"].astype(jnp.float32)[None],
        taps=depthwise["kernel"].astype(jnp.float32).reshape(9, -1),
        bias=depthwise["bias"].astype(jnp.float32)[None],
        fc2=fc2["kernel"].astype(dtype),
    )


def _to_kernel(x: jax.Array) -> jax.Array:
    return x.transpose(1, 2, 0, 3)


def _from_kernel(x: jax.Array) -> jax.Array:
    return x.transpose(2, 0, 1, 3)
