"""softmax(Q K^T / sqrt(d)) V, the dot-product attention of separate operations, in two forms.

Scores, their exponentials and sums are float32 at least. `forms.py` chooses:

- `weights`: the softmax, then its product with V.
- `quotient`: the product of the exponentials with V, divided by their sum. What is divided is a
  head's d channels instead of its weight for every key, and heads are batches of matrix products
  from the start, not turned into them: on 2 CPU cores 0.45 to 0.9 of the other form's time
  forward. Where the scores of a batch are many, a few images at a time, or a few of an image's
  queries, so that they stay in a CPU's cache. Its gradients are written out, of the whole batch at
  once, which makes those of the whole network 1.03 to 1.07 times as fast: autodiff's had XLA join a
  sum, a product and the difference of both to one slow loop.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from shunted_jax.ops.at_a_time import at_a_time
from shunted_jax.ops.dispatch import run_fastest
from shunted_jax.ops.precision import at_least_float32

# Scores, of all images and heads, that go through at once; of more, how many at a time. Fewer at a
# time gain nothing for [196, 196, 4 heads] and less for [3136, 196].
_AT_ONCE, _AT_A_TIME = 2**22, 2**21


def attention_weights(q: jax.Array, k: jax.Array) -> jax.Array:
    """Returns softmax(Q K^T / sqrt(d)), [batch, heads, queries, keys], in at least float32."""
    precise = at_least_float32(q)
    scale = q.shape[-1] ** -0.5
    scores = jnp.einsum("bqnd,bknd->bnqk", q * scale, k, preferred_element_type=precise)
    return nn.softmax(scores)


def weighted_values(weights: jax.Array, v: jax.Array) -> jax.Array:
    """Returns the sums of values [batch, keys, heads, d] that `attention_weights` weigh."""
    return jnp.einsum("bnqk,bknd->bqnd", weights.astype(v.dtype), v)


def _by_weights(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return weighted_values(attention_weights(q, k), v)


def _quotient(q, k, v):
    """Returns the attention, and what its gradients need: all with heads before tokens."""
    precise = at_least_float32(q)
    q, k, v = (jnp.swapaxes(t, 1, 2) for t in (q, k, v))  # [batch, heads, tokens, d]
    q = q * q.shape[-1] ** -0.5
    scores = jnp.matmul(q, k.mT, preferred_element_type=precise)
    largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    exponentials = jnp.exp(scores - largest)
    sums = jnp.matmul(exponentials.astype(v.dtype), v, preferred_element_type=precise)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    out = sums / total
    return jnp.swapaxes(out, 1, 2).astype(v.dtype), (q, k, v, exponentials, total, out)


def _quotient_gradients(saved, cotangent):
    q, k, v, exponentials, total, out = saved
    product = partial(jnp.matmul, preferred_element_type=total.dtype)
    of_sums = jnp.swapaxes(cotangent, 1, 2) / total
    # As a product, and a difference of two maps, for the same reasons as in layer norm.
    ones = jnp.ones((out.shape[-1], 1), out.dtype)
    of_total = jnp.matmul(of_sums * out, ones, precision="highest")
    narrow = of_sums.astype(v.dtype)
    of_scores = exponentials * product(narrow, v.mT) - exponentials * of_total
    of_scores = of_scores.astype(q.dtype)
    of_q = product(of_scores, k) * q.shape[-1] ** -0.5
    of_k = _sum_over_queries(q, of_scores, product)
    of_v = _sum_over_queries(narrow, exponentials.astype(v.dtype), product)
    return tuple(jnp.swapaxes(gradient, 1, 2).astype(q.dtype) for gradient in (of_q, of_k, of_v))


def _sum_over_queries(narrow, wide, product):
    # What is turned over is the narrow one, and the result; barriers keep XLA from multiplying them
    # as they are, which it does on one core.
    turned = jax.lax.optimization_barrier(narrow.mT)
    return jax.lax.optimization_barrier(product(turned, wide)).mT


@jax.custom_vjp
def _by_quotient(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    images, queries = _at_a_time(*q.shape[:3], k.shape[1])
    if (images, queries) == q.shape[:2]:
        return _quotient(q, k, v)[0]
    parts = rearrange(q, "(b i) (p q) n d -> (b p) i q n d", i=images, q=queries)
    k, v = (rearrange(t, "(b i) k n d -> b i k n d", i=images) for t in (k, v))
    parts_of_image = len(parts) // len(k)

    def attend(number_and_part):
        number, part = number_and_part
        return _quotient(part, k[number // parts_of_image], v[number // parts_of_image])[0]

    out = jax.lax.map(attend, (jnp.arange(len(parts)), parts))
    return rearrange(out, "(b p) i q n d -> (b i) (p q) n d", p=parts_of_image)


def _at_a_time(batch: int, queries: int, heads: int, keys: int) -> tuple[int, int]:
    """Returns how many images, and how many queries of each, go through at a time."""
    if not isinstance(batch, int) or batch * queries * heads * keys <= _AT_ONCE:
        return batch, queries
    images = at_a_time(batch, queries * heads * keys, _AT_A_TIME)
    return images, queries if images > 1 else at_a_time(queries, heads * keys, _AT_A_TIME)


_by_quotient.defvjp(_quotient, _quotient_gradients)


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
