"""The exact GELU, x Phi(x), Phi being the normal distribution's cumulative function."""

import jax
import jax.numpy as jnp
import numpy as np

from shunted_jax.ops.precision import at_least_float32

_SQRT_HALF = np.float32(np.sqrt(0.5))
_NORMAL_DENSITY_AT_0 = np.float32(1 / np.sqrt(2 * np.pi))


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """Returns x Phi(x), of x's dtype; inside it is computed in float32, as PyTorch does.

    Flax's default is its tanh approximation. Its exact form takes erfc, both of whose branches are
    computed where there is no choice of instructions for each element: erf alone took two thirds of
    the time on a CPU. The two differ by at most 3e-7 |x|, far below 0. For the gradient nothing
    but x is kept.
    """
    return gelu_value(x).astype(x.dtype)


def gelu_value(x: jax.Array) -> jax.Array:
    """Returns `gelu` in float32, as autodiff sees it."""
    x = _precise(x)
    return x * _cumulative(x)


def gelu_derivative(x: jax.Array) -> jax.Array:
    """Returns Phi(x) + x phi(x), the derivative of `gelu`, in float32."""
    x = _precise(x)
    return _cumulative(x) + x * _NORMAL_DENSITY_AT_0 * jnp.exp(-0.5 * jnp.square(x))


def _backward(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    return ((cotangent * gelu_derivative(x)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu_value(x).astype(x.dtype), x), _backward)


def _cumulative(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + jax.lax.erf(x * _SQRT_HALF))


def _precise(x: jax.Array) -> jax.Array:
    return x.astype(at_least_float32(x))
