"""softmax(Q K^T / sqrt(d)) V, the dot-product attention.

Scores, their exponentials and sums are float32 at least. On CPUs the product of the exponentials
with V is divided by their sum: what is divided is a head's d channels instead of its weight for
every key. Heads are batches of matrix products there from the start, not turned into them. On TPUs
as well, and the gradients compute the exponentials again: a training step of the network needs a
fifth less memory than with float32 scores kept. On GPUs cuDNN's attention, for 16 bits alone, keeps
scores and weights out of memory.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.ops import cudnn
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
    reference, by_quotient, quotient_gradients, by_cudnn, cudnn_gradients = (
        functools.partial(form, precision=precision)
        for form in (_reference, _by_quotient, _quotient_gradients, _by_cudnn, _cudnn_gradients)
    )
    forms = {
        "cpu": Form(by_quotient),
        "cuda": Form(by_cudnn, cudnn_gradients, smooth=reference),
        "tpu": Form(by_quotient, quotient_gradients),
    }
    return Operation("attention", reference, forms)


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
    q, k, v = _heads_first(q, k, v)
    _, weighted, sums = _exponentials(q, k, v, bias, precision=precision)
    return jnp.swapaxes(weighted / sums, 1, 2).astype(v.dtype)


def _heads_first(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Swaps [batch, tokens, heads, d] and [batch, heads, tokens, d]."""
    return tuple(jnp.swapaxes(array, 1, 2) for array in arrays)


def _exponentials(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | float = 0,
    *,
    precision: jax.lax.PrecisionLike,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the scores' exponentials, their products with V, and their sums over the keys."""
    matmul = functools.partial(jnp.matmul, precision=precision)
    precise = at_least_float32(q)
    scores = matmul(q * q.shape[-1] ** -0.5, k.mT, preferred_element_type=precise)
    scores = scores + bias
    largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    exponentials = jnp.exp(scores - largest)
    rounded = exponentials.astype(v.dtype)
    weighted = matmul(rounded, v, preferred_element_type=precise)
    return rounded, weighted, jnp.sum(exponentials, axis=-1, keepdims=True)


def _quotient_gradients(
    *arrays_and_dout: jax.Array, precision: jax.lax.PrecisionLike
) -> tuple[jax.Array, ...]:
    # The compiler would see the forward pass's exponentials in these, and keep them until then.
    *arrays, dout = jax.lax.optimization_barrier(arrays_and_dout)
    if len(arrays) > 3:
        return jax.vjp(functools.partial(_by_quotient, precision=precision), *arrays)[1](dout)
    q, k, v, dout = _heads_first(*arrays, dout)
    matmul = functools.partial(jnp.matmul, precision=precision)
    precise, scale = at_least_float32(q), q.shape[-1] ** -0.5
    exponentials, weighted, sums = _exponentials(q, k, v, precision=precision)
    dout = dout / sums
    along_out = jnp.sum(dout * (weighted / sums), axis=-1, keepdims=True)
    dout = dout.astype(v.dtype)
    dweights = matmul(dout, v.mT, preferred_element_type=precise)
    # Without a barrier the compiler may write out what this is computed from, in float32.
    dscores = jax.lax.optimization_barrier((exponentials * (dweights - along_out)).astype(q.dtype))
    dq = matmul(dscores, k, preferred_element_type=precise) * scale
    dk = matmul(dscores.mT, q * scale)
    dv = matmul(exponentials.mT, dout)
    return _heads_first(dq.astype(q.dtype), dk, dv)


def _by_cudnn(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *bias: jax.Array,
    precision: jax.lax.PrecisionLike,
) -> jax.Array:
    if bias or not cudnn.takes(q, k, v):
        return _reference(q, k, v, *bias, precision=precision)
    return cudnn.attention(q, k, v)


def _cudnn_gradients(
    *arrays_and_dout: jax.Array, precision: jax.lax.PrecisionLike
) -> tuple[jax.Array, ...]:
    *arrays, dout = arrays_and_dout
    if len(arrays) == 3 and cudnn.takes(*arrays):
        return cudnn.gradients(*arrays, dout)
    return jax.vjp(functools.partial(_reference, precision=precision), *arrays)[1](dout)
