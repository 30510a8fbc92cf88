"""The detail-specific feed-forward as one TPU kernel each way, for programs on any mesh.

It computes what the layers of `models/mlp.py` do: in float32 to rounding, and in bfloat16 with
fewer roundings.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from shunted_jax.ops.pallas import feed_forward_call as kernels
from shunted_jax.ops.pallas.feed_forward_kernel import LANES
from shunted_jax.ops.pallas.limits import (
    Interpreter,
    check_dtype,
    check_shared,
    current_interpreter,
    refuse,
)
from shunted_jax.ops.pallas.on_each_device import on_each_device
from shunted_jax.ops.partitioning import batch_devices

# A v5p core has 64 MiB of VMEM, v5e and v6e twice as much; the compiler wants some for itself.
VMEM_BUDGET = 56 * 2**20
# A register holds 8 rows, a batch's images here; a row of the map gives about 450 rows to the
# matrix unit at a time, enough to keep it busy.
_SUBLANES = 8
_ROWS_AT_A_TIME = 512


def feed_forward(x: jax.Array, params: dict[str, Any]) -> jax.Array:
    """Returns fc2(GELU(y + DepthwiseConv3x3(y))) with y = fc1(x).

    Only x and the parameters are kept for the gradients.

    Args:
        x: [batch, height, width, dim], bfloat16.
        params: of `models/mlp.py`, {"fc1", "depthwise", "fc2"} of {"kernel", "bias"}.

    Returns:
        [batch, height, width, dim], of x's dtype.

    Raises:
        UserError: the kernels cannot apply, for their dtype, shapes or batch; or, when the program
            is lowered, for its platform.
    """
    check_dtype(x.dtype)
    check_shared(x.shape[0])
    tile = batch_tile(x.shape, params["fc1"]["bias"].size)
    return call_kernels(tile, current_interpreter(), x, params)


def batch_tile(shape: tuple[int, ...], hidden_dim: int) -> int:
    """Returns how many images the kernels take at a time.

    Args:
        shape: [batch, height, width, dim], the bfloat16 map's, the batch being all devices'.
        hidden_dim: channels of the hidden map.

    Raises:
        UserError: the kernels cannot apply to such shapes.
    """
    batch, height, width, dim = shape
    if hidden_dim % LANES:
        refuse(f"the hidden map is {hidden_dim} channels wide, and must be a multiple of {LANES}")
    batch //= batch_devices()
    if batch % _SUBLANES:
        refuse(f"a device has {batch} images, and must have a multiple of {_SUBLANES}")
    tile, fitting = _SUBLANES, None
    while batch % tile == 0:
        needed = kernels.vmem_bytes((height, width, batch, dim), hidden_dim, jnp.bfloat16, tile)
        if needed > VMEM_BUDGET or (fitting and width * tile > _ROWS_AT_A_TIME):
            break
        tile, fitting = 2 * tile, tile
    if fitting is None:
        refuse(
            f"a map of {height} x {width} x {dim} with a hidden width of {hidden_dim} takes "
            f"{needed / 2**20:.0f} MiB on the chip, and {VMEM_BUDGET // 2**20} MiB is all there is"
        )
    return fitting


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def call_kernels(
    tile: int, interpret: Interpreter, x: jax.Array, params: dict[str, Any]
) -> jax.Array:
    """Does what `feed_forward` does, `tile` images at a time, with maps of any dtype."""

    def forward(maps, weights):
        (x,), (weights, bias2) = map(_to_kernel, maps), weights
        out = kernels.feed_forward(x, weights, bias2, batch_tile=tile, interpret=interpret)
        return _from_kernel(out), ()

    bias2 = params["fc2"]["bias"].astype(jnp.float32)[None]
    out, _ = on_each_device(forward, (x,), (_weights(params, x.dtype), bias2), interpret)
    return out


def _forward(tile, interpret, x, params):
    return call_kernels(tile, interpret, x, params), (x, params)


def _backward(tile, interpret, kept, dout):
    x, params = kept

    def backward(maps, weights):
        x, dout = map(_to_kernel, maps)
        dx, gradients = kernels.feed_forward_gradients(
            x, dout, weights, batch_tile=tile, interpret=interpret
        )
        dbias2 = jnp.sum(dout, axis=(0, 1, 2), dtype=jnp.float32)
        return _from_kernel(dx), (gradients, dbias2)

    weights = _weights(params, x.dtype)
    dx, (gradients, dbias2) = on_each_device(backward, (x, dout), weights, interpret)
    dparams = {
        "fc1": {"kernel": gradients.fc1, "bias": gradients.bias1[0]},
        "depthwise": {
            "kernel": gradients.taps.reshape(params["depthwise"]["kernel"].shape),
            "bias": gradients.bias[0],
        },
        "fc2": {"kernel": gradients.fc2, "bias": dbias2},
    }
    return dx, jax.tree.map(lambda grad, leaf: grad.astype(leaf.dtype), dparams, params)


call_kernels.defvjp(_forward, _backward)


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
    return rearrange(x, "b h w c -> h w b c")


def _from_kernel(x: jax.Array) -> jax.Array:
    return rearrange(x, "h w b c -> b h w c")
