"""The norm of all gradients together, and clipping by it.

Both are what `optax.tree.norm` and `optax.clip_by_global_norm` compute, which sum up each tensor by
itself. Six tenths of this network's tensors are vectors, and XLA's CPU backend compiles three loops
for each. Here they are joined to one: a step of `shunted_b` with scanned blocks then compiles in 48
seconds instead of 58.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def global_norm(tree: Any) -> jax.Array:
    """Returns the root of the sum of all squares, a scalar; of no arrays it is 0.

    Args:
        tree: real arrays, of float32 at least.
    """
    vectors, others = [], []
    for leaf in jax.tree.leaves(tree):
        (vectors if leaf.ndim < 2 else others).append(leaf)
    if vectors:
        others.append(jnp.concatenate([vector.reshape(-1) for vector in vectors]))
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in others))


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Returns a transformation that scales all updates down to `max_norm` together, never up."""

    def clip(updates: Any, params: Any) -> Any:
        del params
        norm = global_norm(updates)
        return jax.tree.map(
            lambda update: jnp.where(norm < max_norm, update, update / norm * max_norm), updates
        )

    return optax.stateless(clip)
