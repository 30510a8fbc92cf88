"""Layer norm, (x - mean) / sqrt(variance + epsilon) * scale + bias over the channels."""

import functools

import jax
import jax.numpy as jnp

from shunted_jax.ops.dispatch import run
from shunted_jax.ops.operation import Form, Operation
from shunted_jax.ops.precision import at_least_float32


def layer_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, *, compute: str = "auto"
) -> jax.Array:
    """Normalises each position's channels, in float32 at least.

    Args:
        x: [..., channels].
        scale: [channels].
        bias: [channels].
        epsilon: added to the variance.
        compute: "reference" for plain JAX.

    Returns:
        [..., channels], in the widest of float32 and the arguments' dtypes.
    """
    precise = at_least_float32(x, scale, bias)
    x, scale, bias = (array.astype(precise) for array in (x, scale, bias))
    return run(_operation(epsilon), x, scale, bias, compute=compute)


@functools.cache
def _operation(epsilon: float) -> Operation:
    def normalize(mean, x, scale, bias):
        centered, scaling = _center(mean, x, epsilon)
        return centered * (scaling * scale) + bias

    def gradients(x, scale, bias, dout):
        del bias
        # XLA fuses a result into each of its readers, which then compute it anew. It does not where
        # the last operation reads two maps, as a difference does, and where it sees several
        # readers. Behind a reshape it sees none: so these are rows, as the readers take them.
        rows, dout = (t.reshape(-1, t.shape[-1]) for t in (x, dout))
        centered, scaling = _center(_mean_as_product, rows, epsilon)
        normalized = centered * scaling
        products = dout * normalized
        weights = scale / x.shape[-1]
        falls = _weigh(dout, weights) + normalized * _weigh(products, weights)
        dx = dout * (scaling * scale) - scaling * falls
        return dx.reshape(x.shape), _sum_over_rows(products), _sum_over_rows(dout)

    on_cpu = Form(functools.partial(normalize, _mean_as_product), gradients)
    return Operation("layer_norm", functools.partial(normalize, _mean), {"cpu": on_cpu})


def _center(mean, x, epsilon):
    # E[x^2] - E[x]^2 loses digits where the mean is large against the spread.
    centered = x - mean(x)
    variance = mean(jnp.square(centered))
    return centered, jax.lax.rsqrt(variance + jnp.asarray(epsilon, x.dtype))


def _mean(x):
    return jnp.mean(x, axis=-1, keepdims=True)


def _mean_as_product(x):
    # XLA's CPU backend draws into a reduction whatever comes before it, up to a depthwise
    # convolution, whose nine shifted copies are then written out.
    return _weigh(x, jnp.full(x.shape[-1:], 1 / x.shape[-1], x.dtype))


def _weigh(x, weights):
    return jnp.matmul(x, weights[:, None], precision="highest")


def _sum_over_rows(rows):
    return jnp.matmul(jnp.ones(len(rows), rows.dtype), rows, precision="highest")
