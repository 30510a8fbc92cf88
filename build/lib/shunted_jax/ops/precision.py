"""The precision of sums and of what rounding would spoil."""

import jax
import jax.numpy as jnp


def at_least_float32(*arrays: jax.Array) -> jnp.dtype:
    """Returns the widest of the arrays' dtypes, or float32 where that is wider."""
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)


def precision_now(precision: jax.lax.PrecisionLike) -> jax.lax.PrecisionLike:
    """Returns `precision`, or in the place of None what `jax.default_matmul_precision` asks for.

    JAX's own products look that up where they are called. A form is traced later, when its program
    is lowered, and then sees nothing of it.
    """
    if precision is None:
        precision = jax.config.jax_default_matmul_precision
    return jax.lax.Precision.DEFAULT if precision is None else precision
