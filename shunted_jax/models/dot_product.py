"""softmax(Q K^T / sqrt(d)) V, the dot-product attention of separate operations, in two forms.

Scores, their exponentials and sums are float32 at least. `forms.py` chooses:

- `weights`: the softmax, then its product with V.
- `quotient`: the product of the exponentials with V, divided by their sum. What is divided is a
  head's d channels instead of its weight for every key, and heads are batches of matrix products
  from the start, not turned into them: on 2 CPU cores 0.45 to 0.9 of the other form's time
  forward, 0.7 to 0.95 with gradients.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.models.forms import run_fastest


def attention_weights(q: jax.Array, k: jax.Array) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d)), [batch, heads, queries, keys], in at least float32."""
    precise = jnp.promote_types(q.dtype, jnp.float32)
    scale = q.shape[-1] ** -0.5
    scores = jnp.einsum("bqnd,bknd->bnqk", q * scale, k, preferred_element_type=precise)
    return nn.softmax(scores)


def weighted_values(weights: jax.Array, v: jax.Array) -> jax.Array:
    """Returns the sums of values [batch, keys, heads, d] that `attention_weights` weigh."""
    return jnp.einsum("bnqk,bknd->bqnd", weights.astype(v.dtype), v)


def _by_weights(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return weighted_values(attention_weights(q, k), v)


def _by_quotient(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    precise = jnp.promote_types(q.dtype, jnp.float32)
    q, k, v = (jnp.swapaxes(t, 1, 2) for t in (q, k, v))  # [batch, heads, tokens, d]
    scores = jnp.matmul(q * q.shape[-1] ** -0.5, k.mT, preferred_element_type=precise)
    largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    exponentials = jnp.exp(scores - largest)
    sums = jnp.matmul(exponentials.astype(v.dtype), v, preferred_element_type=precise)
    out = sums / jnp.sum(exponentials, axis=-1, keepdims=True)
    return jnp.swapaxes(out, 1, 2).astype(v.dtype)


FORMS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "weights": _by_weights,
    "quotient": _by_quotient,
}


def dot_product_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, form: str | None = None
) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d)) V of each head.

    Args:
        q: [batch, queries, heads, d].
        k: [batch, keys, heads, d].
        v: [batch, keys, heads, d].
        form: a name in `FORMS`; None takes the backend's fastest.

    Returns:
        [batch, queries, heads, d], of v's dtype.

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    return run_fastest("attention", FORMS, q, k, v, form=form)
