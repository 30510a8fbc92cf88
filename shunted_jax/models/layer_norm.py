"""Layer norm, (x - mean) / sqrt(variance + epsilon) * scale + bias over the channels, in two forms.

`forms.py` chooses:

- `reduce`: means as reductions.
- `matmul`: means as products with a column of 1 / channels. XLA's CPU backend draws into a
  reduction whatever came before it, up to a feed-forward's depthwise convolution, whose nine
  shifted copies are then written out: without that, a batch of 16 takes 0.8 of the time.

Both subtract the mean before they square: E[x^2] - E[x]^2 loses digits where the mean is large
against the spread.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.models.forms import run_fastest


def _means_as_reductions(x, scale, bias, epsilon):
    return _normalize(x, scale, bias, epsilon, lambda t: jnp.mean(t, axis=-1, keepdims=True))


def _means_as_products(x, scale, bias, epsilon):
    column = jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)
    mean = partial(jnp.matmul, b=column, precision="highest")
    return _normalize(x, scale, bias, epsilon, mean)


def _normalize(x, scale, bias, epsilon, mean):
    centered = x - mean(x)
    variance = mean(jnp.square(centered))
    return centered * (jax.lax.rsqrt(variance + epsilon) * scale) + bias


FORMS = {"reduce": _means_as_reductions, "matmul": _means_as_products}


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
    precise = jnp.promote_types(jnp.result_type(x, scale, bias), jnp.float32)
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
