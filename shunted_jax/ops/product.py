"""x W, the product of a linear map, in two forms.

`forms.py` chooses:

- `plain`: as it is written, with autodiff's gradients.
- `narrow_first`: the kernel's gradient, which sums over all positions, takes the one of its two
  factors that has fewer channels first. XLA's CPU backend turns the first factor over before it
  multiplies, and autodiff gives it the wider one half of the time: [25088, 512] by [25088, 64] take
  19 instead of 34 ms on 2 cores, [1568, 1024] by [1568, 64] take 1.8 instead of 4.2.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.models.initializers import linear_kernel_init
from shunted_jax.ops.dispatch import run_fastest

# Numbers of a kernel for each position from which turning over the result, as each of the
# optimizer's loops that read it does, costs more than it saves: of 32, 256, 1024 and no limit, 256
# was the fastest for steps of T with the optimizer, 224 and 32 pixels together.
_MANY = 256


def _as_written(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.matmul(x, kernel)


def _backward(saved, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return jnp.matmul(cotangent, kernel.T), kernel_gradient(x, cotangent)


def kernel_gradient(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Returns the kernel's gradient of `product`, the narrower factor first, in x's dtype.

    Args:
        x: [..., in_channels].
        cotangent: [..., out_channels].

    Returns:
        [in_channels, out_channels].
    """
    numbers, positions = x.shape[-1] * cotangent.shape[-1], x.size // x.shape[-1]
    if x.shape[-1] <= cotangent.shape[-1] or numbers > _MANY * positions:
        return _sum_of_products(x, cotangent)
    return jax.lax.optimization_barrier(_sum_of_products(cotangent, x)).T


def _sum_of_products(first: jax.Array, second: jax.Array) -> jax.Array:
    positions = tuple(range(first.ndim - 1))
    return jax.lax.dot_general(first, second, ((positions, positions), ((), ())))


product_narrow_first = jax.custom_vjp(_as_written)
product_narrow_first.defvjp(lambda x, kernel: (_as_written(x, kernel), (x, kernel)), _backward)

FORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "plain": _as_written,
    "narrow_first": product_narrow_first,
}


def product(x: jax.Array, kernel: jax.Array, form: str | None = None) -> jax.Array:
    """Returns x W.

    Args:
        x: [..., in_channels].
        kernel: [in_channels, out_channels], of x's dtype.
        form: a name in `FORMS`; None takes the backend's fastest.

    Returns:
        [..., out_channels], of x's dtype.

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    return run_fastest("product", FORMS, x, kernel, form=form)


def _as_dot_general(x, kernel, dimension_numbers, precision):
    del dimension_numbers, precision  # a linear map's, and none
    return product(x, kernel)


Dense = partial(nn.Dense, kernel_init=linear_kernel_init, dot_general=_as_dot_general)
