"""The detail-specific feed-forward, fc2(GELU(y + DepthwiseConv3x3(y))) with y = fc1(x), section 3.

The hidden map y is the network's widest, up to eight times the stage's width, and most of the
traffic is its. Two forms agree in value and in gradient; `forms.py` chooses:

- `conv`: as it is written.
- `shift`: in parts of the batch, as many images as have their hidden maps stay in a CPU's cache
  from one operation to the next. In training the map is made of the whole batch at once, as it is
  kept for the gradients; those, which are written out, go through it in parts and put their result
  in the place of what they have read.
"""

import math

import jax
import jax.numpy as jnp

from shunted_jax.ops.at_a_time import at_a_time
from shunted_jax.ops.depthwise import depthwise_conv3x3, shift_and_add, shift_gradients
from shunted_jax.ops.dispatch import run_fastest
from shunted_jax.ops.gelu import gelu, gelu_derivative, gelu_value
from shunted_jax.ops.precision import at_least_float32
from shunted_jax.ops.product import kernel_gradient

# Of one layer: {"kernel": ..., "bias": ...}. Of all three: by the names fc1, depthwise and fc2.
Layer = dict[str, jax.Array]
Params = dict[str, Layer]

# Numbers of the hidden maps of as many images as go through at a time, forward and for the
# gradients: of powers of two the fastest for maps of 8 x 8 to 56 x 56.
_AT_A_TIME, _GRADIENTS_AT_A_TIME = 2**20, 2**18


def _as_written(x: jax.Array, params: Params) -> jax.Array:
    y = jnp.matmul(x, params["fc1"]["kernel"]) + params["fc1"]["bias"]
    y = _inner_step_as_written(y, params["depthwise"])
    return jnp.matmul(y, params["fc2"]["kernel"]) + params["fc2"]["bias"]


def _inner_step_as_written(y: jax.Array, depthwise: Layer) -> jax.Array:
    return gelu(y + (depthwise_conv3x3(y, depthwise["kernel"], "conv") + depthwise["bias"]))


def _in_parts(x: jax.Array, params: Params) -> jax.Array:
    positions, hidden_dim = math.prod(x.shape[1:3]), params["fc1"]["bias"].size
    images = at_a_time(x.shape[0], positions * hidden_dim, _AT_A_TIME)
    if images == x.shape[0]:
        return _forward(x, params)[0]
    parts = x.reshape(-1, images, *x.shape[1:])
    return jax.lax.map(lambda part: _forward(part, params)[0], parts).reshape(x.shape)


def _forward(x, params):
    y = jnp.matmul(x, params["fc1"]["kernel"]) + params["fc1"]["bias"]
    # Rows of positions, as the products that read them: XLA sees then that there are two, and keeps
    # the result. Behind a reshape it took them for one, and computed the taps anew for the second.
    rows = _rows(_before_gelu(y, params["depthwise"]))
    rows = gelu_value(rows).astype(y.dtype)
    out = jnp.matmul(rows, params["fc2"]["kernel"]) + params["fc2"]["bias"]
    return out.reshape(x.shape), (x, params, y, rows)


def _before_gelu(y: jax.Array, depthwise: Layer) -> jax.Array:
    return y + shift_and_add(y, depthwise["kernel"]) + depthwise["bias"]


def _backward(saved, cotangent):
    # What the forward pass computes as well, XLA would compute once, for both, and write out.
    (x, params, y, rows), cotangent = jax.lax.optimization_barrier((saved, cotangent))
    of_out = _rows(cotangent)
    of_gelu = jnp.matmul(of_out, params["fc2"]["kernel"].T).reshape(y.shape)
    of_y, of_depthwise = _through_inner_step(y, params["depthwise"], of_gelu)
    of_y = _rows(of_y)
    of_params = {
        "fc1": {"kernel": kernel_gradient(_rows(x), of_y), "bias": _sum(of_y)},
        "depthwise": of_depthwise,
        "fc2": {"kernel": kernel_gradient(rows, of_out), "bias": _sum(of_out)},
    }
    of_x = jnp.matmul(of_y, params["fc1"]["kernel"].T).reshape(x.shape)
    return of_x, _as_wide_as(of_params, params)


def _through_inner_step(y, depthwise, of_gelu):
    """Returns the gradients of y and of the depthwise parameters, given the one after GELU."""
    images = at_a_time(y.shape[0], math.prod(y.shape[1:]), _GRADIENTS_AT_A_TIME)
    if images == y.shape[0]:
        return _gradients(y, depthwise, of_gelu)

    def add_part(number, sums_and_map):
        sums, maps = sums_and_map
        start = number * images
        part, of_part = (jax.lax.dynamic_slice_in_dim(m, start, images) for m in (y, maps))
        of_part, of_depthwise = _gradients(part, depthwise, of_part)
        maps = jax.lax.dynamic_update_slice_in_dim(maps, of_part, start, 0)
        return jax.tree.map(jnp.add, sums, of_depthwise), maps

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, at_least_float32(leaf)), depthwise)
    of_depthwise, of_y = jax.lax.fori_loop(0, len(y) // images, add_part, (zeros, of_gelu))
    return of_y, of_depthwise


def _gradients(y, depthwise, of_gelu):
    inner = _before_gelu(y, depthwise)
    of_inner = jax.lax.optimization_barrier(of_gelu * gelu_derivative(inner))
    of_taps, of_kernel = shift_gradients(y, depthwise["kernel"], of_inner)
    return (of_inner + of_taps).astype(y.dtype), {"kernel": of_kernel, "bias": _sum(of_inner)}


def _rows(maps: jax.Array) -> jax.Array:
    return maps.reshape(-1, maps.shape[-1])


def _sum(maps: jax.Array) -> jax.Array:
    return jnp.sum(maps, axis=tuple(range(maps.ndim - 1)), dtype=at_least_float32(maps))


def _as_wide_as(gradients, params):
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), gradients, params)


_with_gradients = jax.custom_vjp(_in_parts)
_with_gradients.defvjp(_forward, _backward)

FORMS = {"conv": _as_written, "shift": _with_gradients}


@jax.custom_vjp
def _inner_step_by_shifts(y: jax.Array, depthwise: Layer) -> jax.Array:
    return gelu_value(_before_gelu(y, depthwise)).astype(y.dtype)


def _inner_step_backward(saved, cotangent):
    (y, depthwise), cotangent = jax.lax.optimization_barrier((saved, cotangent))
    of_y, of_depthwise = _through_inner_step(y, depthwise, cotangent)
    return of_y, _as_wide_as(of_depthwise, depthwise)


_inner_step_by_shifts.defvjp(
    lambda y, depthwise: (_inner_step_by_shifts(y, depthwise), (y, depthwise)), _inner_step_backward
)

_INNER_STEP_FORMS = {"conv": _inner_step_as_written, "shift": _inner_step_by_shifts}


def inner_step(y: jax.Array, depthwise: Layer, form: str | None = None) -> jax.Array:
    """Returns GELU(y + DepthwiseConv3x3(y)), of y's shape, the hidden map's, and dtype.

    It is for who has something to do between the three layers, as dropping elements.

    Args:
        y: [batch, height, width, channels].
        depthwise: kernel [3, 3, 1, channels] and bias [channels], of y's dtype.
        form: a name in `FORMS`; None takes the backend's fastest.

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    return run_fastest("detail", _INNER_STEP_FORMS, y, depthwise, form=form)


def detail_feed_forward(x: jax.Array, params: Params, form: str | None = None) -> jax.Array:
    """Returns fc2(GELU(y + DepthwiseConv3x3(y))) with y = fc1(x), of x's shape and dtype.

    Args:
        x: [batch, height, width, dim].
        params: of x's dtype, fc1 [dim, hidden_dim] and [hidden_dim], depthwise
            [3, 3, 1, hidden_dim] and [hidden_dim], fc2 [hidden_dim, dim] and [dim].
        form: a name in `FORMS`; None takes the backend's fastest.

    Raises:
        ValueError: `form` is not a name in `FORMS`.
    """
    return run_fastest("detail", FORMS, x, params, form=form)
