"""The attention of a group of heads as one TPU kernel each way, for programs on any mesh."""

from functools import partial

import jax
from einops import rearrange

from shunted_jax.ops.pallas import attention_kernel as kernels
from shunted_jax.ops.pallas.limits import (
    Interpreter,
    check_dtype,
    check_shared,
    current_interpreter,
    refuse,
)
from shunted_jax.ops.pallas.on_each_device import on_each_device

_VMEM_BUDGET = 40 * 2**20


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d)) V of each head; only q, k and v are kept for the gradients.

    Args:
        q: [batch, queries, heads, d], bfloat16.
        k: [batch, keys, heads, d].
        v: [batch, keys, heads, d].

    Returns:
        [batch, queries, heads, d], of q's dtype.

    Raises:
        UserError: the kernels cannot apply, for their dtype, shapes or batch; or, when the program
            is lowered, for its platform.
    """
    _check(q, k)
    return call_kernels(current_interpreter(), q, k, v)


def _check(q: jax.Array, k: jax.Array) -> None:
    check_dtype(q.dtype)
    batch, queries, num_heads, d = q.shape
    check_shared(batch)
    if d % 16:  # a head's channels are whole registers of bfloat16
        refuse(f"a head has {d} channels, and the kernels want a multiple of 16")
    needed = kernels.vmem_bytes(queries, k.shape[1], num_heads * d)
    if needed > _VMEM_BUDGET:
        refuse(
            f"{queries} queries and {k.shape[1]} keys take {needed / 2**20:.0f} MiB on the chip, "
            f"and {_VMEM_BUDGET // 2**20} MiB is all there is: the images are too large"
        )


def call_kernels(interpret: Interpreter, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Does what `attention` does, with arrays of any dtype."""
    num_heads = q.shape[2]
    q, k, v = (rearrange(t, "b t n d -> b t (n d)") for t in (q, k, v))
    out = _attention(num_heads, interpret, q, k, v)
    return rearrange(out, "b t (n d) -> b t n d", n=num_heads)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attention(num_heads, interpret, q, k, v):
    def forward(maps, weights):
        del weights
        q, k, v = maps
        out = kernels.attend(_turned(q), k, v, num_heads=num_heads, interpret=interpret)
        return _turned(out), ()

    out, _ = on_each_device(forward, (q, k, v), (), interpret)
    return out


def _forward(num_heads, interpret, q, k, v):
    return _attention(num_heads, interpret, q, k, v), (q, k, v)


def _backward(num_heads, interpret, kept, dout):
    def backward(maps, weights):
        del weights
        q, k, v, dout = maps
        dq, dk, dv = kernels.attend_gradients(
            _turned(q), k, v, _turned(dout), num_heads=num_heads, interpret=interpret
        )
        return (_turned(dq), dk, dv), ()

    gradients, _ = on_each_device(backward, (*kept, dout), (), interpret)
    return gradients


_attention.defvjp(_forward, _backward)


def _turned(x: jax.Array) -> jax.Array:
    return rearrange(x, "b t c -> b c t")
