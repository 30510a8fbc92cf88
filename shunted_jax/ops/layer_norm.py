"""Layer norm, (x - mean) / sqrt(variance + epsilon) * scale + bias over the channels, in two forms.

`forms.py` chooses:

- `reduce`: means as reductions.
- `matmul`: means as products with a column of 1 / channels. XLA's CPU backend draws into a
  reduction whatever came before it, up to a feed-forward's depthwise convolution, whose nine
  shifted copies are then written out: without that, a batch of 16 takes 0.8 of the time. The
  gradients are written out, with such products: for [8, 56, 56, 64] a third of the time that
  autodiff's take on 2 CPU cores.

Both subtract the mean before they square: E[x^2] - E[x]^2 loses digits where the mean is large
against the spread.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.ops.dispatch import run_fastest
from shunted_jax.ops.precision import at_least_float32


def _with_reductions(x, scale, bias, epsilon):
    return _normalize(x, scale, bias, epsilon, partial(jnp.mean, axis=-1, keepdims=True))


def _by_products(x, scale, bias, epsilon):
    return _normalize(x, scale, bias, epsilon, _mean_as_product)


def _normalize(x, scale, bias, epsilon, mean):
    centered, scaling = _center(x, epsilon, mean)
    return centered * (scaling * scale) + bias


def _center(x, epsilon, mean):
    centered = x - mean(x)
    return centered, jax.lax.rsqrt(mean(jnp.square(centered)) + epsilon)


def _mean_as_product(x):
    return _weigh(x, jnp.full(x.shape[-1:], 1 / x.shape[-1], x.dtype))


def _weigh(x, weights):
    return jnp.matmul(x, weights[:, None], precision="highest")


def _backward(saved, cotangent):
    x, scale, epsilon = saved
    # XLA fuses a result into each of its readers, computing it anew, unless it sees several of them
    # (not behind a reshape: so these are rows, as the readers' products take them) and the last
    # operation reads two maps, as a difference does and a product with a number a row does not.
    rows, cotangent = (t.reshape(-1, t.shape[-1]) for t in (x, cotangent))
    centered, scaling = _center(rows, epsilon, _mean_as_product)
    normalized = centered * scaling
    products = cotangent * normalized
    weights = scale / x.shape[-1]
    falls = _weigh(cotangent, weights) + normalized * _weigh(products, weights)
    of_rows = cotangent * (scaling * scale) - scaling * falls
    of_scale, of_bias = _sum_over_positions(products), _sum_over_positions(cotangent)
    return of_rows.reshape(x.shape), of_scale, of_bias, None


def _sum_over_positions(rows):
    return jnp.matmul(jnp.ones(len(rows), rows.dtype), rows, precision="highest")


_with_products = jax.custom_vjp(_by_products)
_with_products.defvjp(
    lambda x, scale, bias, epsilon: (_by_products(x, scale, bias, epsilon), (x, scale, epsilon)),
    _backward,
)

FORMS = {"reduce": _with_reductions, "matmul": _with_products}


def layer_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, form: str | None = None
) -> jax.Array:
    """Normalises each position's channels, in float32 at least.

    Args:
        x: [..., channels].
        scale: [channels].
        bias: [channels].
        epsilon: added to the variance.
        form: a name in `FORMS`; None takes the backend's fastest.

    Returns:
        [..., channels], in the widest of float32 and the arguments' dtypes.

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    precise = at_least_float32(x, scale, bias)
    x, scale, bias = (array.astype(precise) for array in (x, scale, bias))
    return run_fastest("layer_norm", FORMS, x, scale, bias, precise.type(epsilon), form=form)


class LayerNorm(nn.Module):
    """`layer_norm` with a learned scale and bias [channels]."""

    epsilon: float
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., channels] to the same shape, of `dtype`."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.param_dtype)
        return layer_norm(x, scale, bias, self.epsilon).astype(self.dtype)
