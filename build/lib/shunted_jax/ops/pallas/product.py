"""The matrix product inside of a kernel."""

import jax
import jax.numpy as jnp


def product(a: jax.Array, b: jax.Array, contracted: tuple[int, int]) -> jax.Array:
    """Returns the sums over one axis of each of two matrices, in float32.

    Args:
        a: a matrix.
        b: a matrix of a's dtype.
        contracted: the axis of a and that of b.
    """
    dimensions = (((contracted[0],), (contracted[1],)), ((), ()))
    # Products of bfloat16 are exact as they are; Mosaic refuses to be asked for more of them.
    precision = "highest" if a.dtype == jnp.float32 else "default"
    return jax.lax.dot_general(
        a, b, dimensions, precision=precision, preferred_element_type=jnp.float32
    )
