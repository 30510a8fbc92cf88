"""softmax(Q K^T / sqrt(d)) V, the dot-product attention.

Scores, their exponentials and sums are float32 at least. On CPUs the product of the exponentials
with V is divided by their sum: what is divided is a head's d channels instead of its weight for
every key. Heads are batches of matrix products there from the start, not turned into them.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.ops.dispatch import run
from shunted_jax.ops.operation import Form, Operation
from shunted_jax.ops.precision import at_least_float32, precision_now


def dot_product_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    *,
    compute: str = "auto",
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d) + bias) V of each head.

    Args:
        q: [batch, queries, heads, d].
        k: [batch, keys, heads, d].
        v: [batch, keys, heads, d].
        bias: what broadcasts to [batch, heads, queries, keys]; None adds none.
        compute: "reference" for plain JAX.
        precision: of the products, as `jax.lax.dot` takes it.

    Returns:
        [batch, queries, heads, d], of v's dtype.
    """
    arrays = (q, k, v) if bias is None else (q, k, v, bias)
    return run(_operation(precision_now(precision)), *arrays, compute=compute)


@functools.cache
def _operation(precision: jax.lax.PrecisionLike) -> Operation:
    reference, on_cpu = (
        functools.partial(form, precision=precision) for form in (_reference, _by_quotient)
    )
    return Operation("attention", reference, {"cpu": Form(on_cpu)})


def attention_weights(
    q: jax.Array,
    k: jax.Array,
    bias: jax.Array | float = 0,
    *,
    precision: jax.lax.PrecisionLike = None,
) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d) + bias), float32 at least, [batch, heads, queries, keys]."""
    precise = at_least_float32(q)
    scale = q.shape[-1] ** -0.5
    scores = jnp.einsum(
        "bqnd,bknd->bnqk", q * scale, k, precision=precision, preferred_element_type=precise
    )
    return nn.softmax(scores + bias)


def weighted_values(
    weights: jax.Array, v: jax.Array, *, precision: jax.lax.PrecisionLike = None
) -> jax.Array:
    """Returns the sums of values [batch, keys, heads, d] that `attention_weights` weigh."""
    return jnp.einsum("bnqk,bknd->bqnd", weights.astype(v.dtype), v, precision=precision)


def _reference(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | float = 0,
    *,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    weights = attention_weights(q, k, bias, precision=precision)
    return weighted_values(weights, v, precision=precision)


def _by_quotient(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | float = 0,
    *,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    matmul = functools.partial(jnp.matmul, precision=precision)
    precise = at_least_float32(q)
    q, k, v = (jnp.swapaxes(t, 1, 2) for t in (q, k, v))  # [batch, heads, tokens, d]
    scores = matmul(q * q.shape[-1] ** -0.5, k.mT, preferred_element_type=precise)
    scores = scores + bias
    largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    exponentials = jnp.exp(scores - largest)
    sums = matmul(exponentials.astype(v.dtype), v, preferred_element_type=precise)
    out = sums / jnp.sum(exponentials, axis=-1, keepdims=True)
    return jnp.swapaxes(out, 1, 2).astype(v.dtype)
