"""softmax(Q K^T / sqrt(d)) V, the dot-product attention.

Scores, their exponentials and sums are float32 at least. On CPUs the product of the exponentials
with V is divided by their sum: what is divided is a head's d channels instead of its weight for
every key. Heads are batches of matrix products there from the start, not turned into them. On GPUs
cuDNN's attention, for 16 bits alone, keeps scores and weights out of memory.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.adapters.jax import has_cudnn_attention
from shunted_jax.ops.dispatch import run
from shunted_jax.ops.operation import Form, Operation
from shunted_jax.ops.precision import at_least_float32


def dot_product_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    *,
    compute: str = "auto",
) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d) + bias) V of each head.

    Args:
        q: [batch, queries, heads, d].
        k: [batch, keys, heads, d].
        v: [batch, keys, heads, d].
        bias: what broadcasts to [batch, heads, queries, keys]; None adds none.
        compute: "reference" for plain JAX.

    Returns:
        [batch, queries, heads, d], of v's dtype.
    """
    arrays = (q, k, v) if bias is None else (q, k, v, bias)
    return run(_OPERATION, *arrays, compute=compute)


def attention_weights(q: jax.Array, k: jax.Array, bias: jax.Array | float = 0) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d) + bias), float32 at least, [batch, heads, queries, keys]."""
    precise = at_least_float32(q)
    scale = q.shape[-1] ** -0.5
    scores = jnp.einsum("bqnd,bknd->bnqk", q * scale, k, preferred_element_type=precise)
    return nn.softmax(scores + bias)


def weighted_values(weights: jax.Array, v: jax.Array) -> jax.Array:
    """Returns the sums of values [batch, keys, heads, d] that `attention_weights` weigh."""
    return jnp.einsum("bnqk,bknd->bqnd", weights.astype(v.dtype), v)


def _reference(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | float = 0) -> jax.Array:
    return weighted_values(attention_weights(q, k, bias), v)


def _by_quotient(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | float = 0
) -> jax.Array:
    precise = at_least_float32(q)
    q, k, v = (jnp.swapaxes(t, 1, 2) for t in (q, k, v))  # [batch, heads, tokens, d]
    scores = jnp.matmul(q * q.shape[-1] ** -0.5, k.mT, preferred_element_type=precise)
    scores = scores + bias
    largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    exponentials = jnp.exp(scores - largest)
    sums = jnp.matmul(exponentials.astype(v.dtype), v, preferred_element_type=precise)
    out = sums / jnp.sum(exponentials, axis=-1, keepdims=True)
    return jnp.swapaxes(out, 1, 2).astype(v.dtype)


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, *bias: jax.Array) -> jax.Array:
    if bias or not _cudnn_takes(q):
        return _reference(q, k, v, *bias)
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def _cudnn_gradients(q, k, v, *bias_and_dout):
    *bias, dout = bias_and_dout
    plain = bias or not _cudnn_takes(q)
    _, pull_back = jax.vjp(_reference if plain else _cudnn_of_even_lengths, q, k, v, *bias)
    return pull_back(dout)


def _cudnn_of_even_lengths(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    # JAX up to 0.12 refuses the gradients of odd lengths.
    batch, queries, keys = len(q), q.shape[1], k.shape[1]
    if queries % 2 == keys % 2 == 0:
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
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


def _cudnn_takes(q: jax.Array) -> bool:
    return q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] % 8 == 0 and has_cudnn_attention()


_OPERATION = Operation(
    "attention",
    _reference,
    {
        "cpu": Form(_by_quotient),
        "cuda": Form(_cudnn, _cudnn_gradients, smooth=_reference),
    },
)
