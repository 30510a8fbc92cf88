"""The precision of sums and of what rounding would spoil."""

import jax
import jax.numpy as jnp


def at_least_float32(*arrays: jax.Array) -> jnp.dtype:
    """Returns the widest of the arrays' dtypes, or float32 where that is wider."""
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
