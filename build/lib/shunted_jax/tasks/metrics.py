"""Losses and scores as sums and counts, so that means over unequal batches are exact."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

TOP_K = (1, 5)


@struct.dataclass
class Mean:
    """A mean in the making.

    Attributes:
        total: float32 [], the sum over examples.
        count: float32 [], the number of examples.
    """

    total: jax.Array
    count: jax.Array

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float:
        """The mean itself, on the host."""
        return float(self.total) / float(self.count)


Metrics = dict[str, Mean]


def correct_in_top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Returns whether each label is among its example's k largest logits; ties count against it.

    Args:
        logits: [batch, classes]; with fewer than k classes, every label is among them.
        labels: int32 [batch].
        k: how many guesses an example has.

    Returns:
        bool [batch].
    """
    true_logit = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    # The label itself is one of those that are as large; what is not a number is never correct.
    as_large = jnp.sum(logits >= true_logit, axis=-1)
    return (as_large <= k) & (as_large > 0)


def score(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> dict[str, Mean]:
    """Returns loss, top-1 and top-5 over the examples whose mask is set.

    Args:
        logits: float32 [batch, classes].
        labels: int32 [batch].
        mask: bool [batch], False for padding.
    """
    count = jnp.sum(mask, dtype=jnp.float32)

    def mean(values: jax.Array) -> Mean:
        return Mean(jnp.sum(jnp.where(mask, values, 0), dtype=jnp.float32), count)

    scores = {f"top{k}": mean(correct_in_top_k(logits, labels, k)) for k in TOP_K}
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {"loss": mean(losses), **scores}
