"""cuDNN's attention, which keeps scores and weights out of a GPU's memory."""

import jax
import jax.numpy as jnp

from shunted_jax.adapters.jax import has_cudnn_attention

_WIDEST = 128  # d; GPUs from Hopper on take wider heads


def takes(q: jax.Array, k: jax.Array, v: jax.Array) -> bool:
    """Returns whether it can compute this: in 16 bits, heads of a multiple of 8 channels."""
    width = q.shape[-1]
    return (
        q.dtype in (jnp.bfloat16, jnp.float16)
        and q.dtype == k.dtype == v.dtype
        and width % 8 == 0
        and width <= _WIDEST
        and 0 not in (*q.shape, *k.shape)  # there would be nothing to launch
        and has_cudnn_attention()
    )


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d)) V, all [batch, tokens, heads, d]."""
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def gradients(
    q: jax.Array, k: jax.Array, v: jax.Array, dout: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the cotangents of q, k and v for that of the result."""
    return jax.vjp(_of_even_lengths, q, k, v)[1](dout)


def _of_even_lengths(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    # JAX up to 0.12 refuses the gradients of odd lengths.
    batch, queries, keys = q.shape[0], q.shape[1], k.shape[1]
    if queries % 2 == keys % 2 == 0:
        return attention(q, k, v)
    q, k, v = (jnp.pad(t, ((0, 0), (0, t.shape[1] % 2), (0, 0), (0, 0))) for t in (q, k, v))
    out = jax.nn.dot_product_attention(
        q,
        k,
        v,
        query_seq_lengths=jnp.full(batch, queries, jnp.int32),
        key_value_seq_lengths=jnp.full(batch, keys, jnp.int32),
        implementation="cudnn",
    )
    return out[:, :queries]
