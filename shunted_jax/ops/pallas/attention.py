"""The attention of a group of heads as one TPU kernel each way, for programs on any mesh.

It computes what the separate operations in `attention.Attend` do, which stay the reference. What is
said in `feed_forward.py` of never having run on a TPU holds here too.
"""

from functools import partial

import jax
import jax.numpy as jnp

from shunted_jax.ops.pallas import attention_kernel as kernels
from shunted_jax.ops.pallas.on_each_device import batch_devices, on_each_device

_VMEM_BUDGET = 40 * 2**20


def is_fusible(q: jax.Array, k: jax.Array, num_heads: int) -> bool:
    """Returns whether the kernels apply to these queries and keys.

    Args:
        q: [batch, queries, channels].
        k: [batch, keys, channels].
        num_heads: of the group.
    """
    batch, queries, channels = q.shape
    devices = batch_devices()
    return (
        q.dtype == jnp.bfloat16
        and batch % devices == 0
        and channels // num_heads % 16 == 0  # a head's channels are whole registers of bfloat16
        and kernels.vmem_bytes(queries, k.shape[1], channels) <= _VMEM_BUDGET
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def fused_attend(num_heads: int, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d)) V for all heads of a group.

    Only q, k and v are kept for the gradients.

    Args:
        num_heads: of the group.
        q: [batch, queries, channels], channels being num_heads x d.
        k: [batch, keys, channels].
        v: [batch, keys, channels].

    Returns:
        [batch, queries, channels], of q's dtype.
    """

    def forward(maps, weights, interpret):
        del weights
        q, k, v = maps
        out = kernels.attend(_turned(q), k, v, num_heads=num_heads, interpret=interpret)
        return _turned(out), ()

    out, _ = on_each_device(forward, (q, k, v), ())
    return out


def _forward(num_heads, q, k, v):
    return fused_attend(num_heads, q, k, v), (q, k, v)


def _backward(num_heads, kept, dout):
    def backward(maps, weights, interpret):
        del weights
        q, k, v, dout = maps
        dq, dk, dv = kernels.attend_gradients(
            _turned(q), k, v, _turned(dout), num_heads=num_heads, interpret=interpret
        )
        return (_turned(dq), dk, dv), ()

    gradients, _ = on_each_device(backward, (*kept, dout), ())
    return gradients


fused_attend.defvjp(_forward, _backward)


def _turned(x: jax.Array) -> jax.Array:
    return x.transpose(0, 2, 1)
