"""TPU kernels of softmax(Q K^T / sqrt(d)) V that keep the attention weights on the chip.

Aggregated keys are few (49 and 196 for an image of 224 pixels), so all of an image's weights fit in
VMEM at once: no running maximum, no tiles of keys. The backward kernel computes the weights again.
Queries and outputs are [batch, channels, tokens] in here: a head has 32 channels, a quarter of a
register's width, where tokens fill it; sums over keys then go down the register's rows.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from shunted_jax.ops.pallas.limits import Interpreter
from shunted_jax.ops.pallas.product import product


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, *, num_heads: int, interpret: Interpreter
) -> jax.Array:
    """Returns what each query sees of the values.

    Args:
        q: [batch, channels, queries], channels being num_heads x d.
        k: [batch, keys, channels].
        v: [batch, keys, channels].
        num_heads: of the group.
        interpret: as `pl.pallas_call` takes it, for tests.

    Returns:
        [batch, channels, queries], of q's dtype.
    """
    return _call(
        partial(_forward_kernel, num_heads), "attend", (q, k, v), (q,), num_heads, interpret
    )[0]


def attend_gradients(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    dout: jax.Array,
    *,
    num_heads: int,
    interpret: Interpreter,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the gradients with respect to q, k and v; arguments as for `attend`."""
    return _call(
        partial(_backward_kernel, num_heads),
        "attend_gradients",
        (q, k, v, dout),
        (q, k, v),
        num_heads,
        interpret,
    )


def vmem_bytes(queries: int, keys: int, channels: int) -> int:
    """Returns about how much VMEM the backward kernel takes."""
    weights = 4 * queries * -(-keys // 8) * 8
    # The weights, their gradient, two steps on the way, and two of these in bfloat16; the maps
    # twice, as one image's come and go while the next one is computed.
    of_head = 5 * weights
    maps = 2 * 2 * (3 * queries * channels + 4 * keys * max(channels, 128))
    return of_head + maps + 2 * 2**20


def _call(kernel, name, arguments, results, num_heads, interpret):
    q, k = arguments[:2]
    batch, channels, queries = q.shape
    keys = k.shape[1]
    weights = batch * num_heads * queries * keys
    products = 2 if len(results) == 1 else 5
    moved = sum(array.size * array.dtype.itemsize for array in (*arguments, *results))

    def of_image(array: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec((1, *array.shape[1:]), lambda image: (image, 0, 0))

    return pl.pallas_call(
        kernel,
        name=name,
        grid=(batch,),
        in_specs=[of_image(array) for array in arguments],
        out_specs=[of_image(array) for array in results],
        out_shape=[jax.ShapeDtypeStruct(array.shape, array.dtype) for array in results],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel",),
            vmem_limit_bytes=vmem_bytes(queries, keys, channels) + 8 * 2**20,
        ),
        cost_estimate=pl.CostEstimate(
            flops=weights * 2 * products * (channels // num_heads),
            transcendentals=weights,
            bytes_accessed=moved,
        ),
        interpret=interpret,
    )(*arguments)


def _forward_kernel(num_heads, q_ref, k_ref, v_ref, out_ref):
    for rows in _heads(q_ref, num_heads):
        v = v_ref[0, :, rows]
        weights = _weights(q_ref[0, rows], k_ref[0, :, rows]).astype(v.dtype)
        out_ref[0, rows] = product(v, weights, (0, 0)).astype(out_ref.dtype)


def _backward_kernel(num_heads, q_ref, k_ref, v_ref, dout_ref, dq_ref, dk_ref, dv_ref):
    for rows in _heads(q_ref, num_heads):
        q, k, v, dout = q_ref[0, rows], k_ref[0, :, rows], v_ref[0, :, rows], dout_ref[0, rows]
        weights = _weights(q, k)
        dv_ref[0, :, rows] = product(weights.astype(v.dtype), dout, (1, 1)).astype(dv_ref.dtype)
        dweights = product(v, dout, (1, 0))
        mean = jnp.sum(weights * dweights, axis=0, keepdims=True)
        dscores = (weights * (dweights - mean) * len(q) ** -0.5).astype(q.dtype)
        dq_ref[0, rows] = product(k, dscores, (0, 0)).astype(dq_ref.dtype)
        dk_ref[0, :, rows] = product(dscores, q, (1, 1)).astype(dk_ref.dtype)


def _heads(q_ref, num_heads):
    """Returns each head's channels."""
    d = q_ref.shape[1] // num_heads
    return [slice(head * d, (head + 1) * d) for head in range(num_heads)]


def _weights(q, k):
    """Returns a head's attention weights, float32 [keys, queries]."""
    scores = product(k, q, (1, 0)) * len(q) ** -0.5
    exponentials = jnp.exp(scores - jnp.max(scores, axis=0, keepdims=True))
    return exponentials / jnp.sum(exponentials, axis=0, keepdims=True)
