"""The kernels against the plain form: how far values and gradients are from float32's.

A comparison is made on whatever device JAX has. The measure is the norm of the difference over the
norm of what is exact, the plain form in float32 with exact products.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tpu_check.shapes import AttentionShape, FeedForwardShape
from shunted_jax.models.mlp import DetailFeedForward
from shunted_jax.models.numerics import Numerics
from shunted_jax.ops.attention import dot_product_attention
from shunted_jax.ops.pallas.attention import call_kernels as attention_kernels
from shunted_jax.ops.pallas.feed_forward import call_kernels as feed_forward_kernels
from shunted_jax.ops.pallas.limits import Interpreter

# What a kernel's results may differ by. Rounding a normal number to bfloat16 alone gives 1.7e-3;
# in float32 the order of sums is all that differs.
TOLERANCES = {"bfloat16": 1e-2, "float32": 1e-5}


class Distances(NamedTuple):
    """How far from float32's results are those of the kernels and of the plain form, by array.

    The plain form's are empty where it is in float32 itself.
    """

    kernel: dict[str, float]
    plain: dict[str, float] = {}


def compare_attention(
    shape: AttentionShape, batch: int, dtype: str, interpret: Interpreter = False
) -> Distances:
    """Compares softmax(Q K^T / sqrt(d)) V and its gradients.

    Args:
        shape: of an image.
        batch: images.
        dtype: of queries, keys and values.
        interpret: as `pl.pallas_call` takes it.
    """
    rng = np.random.default_rng(0)
    counts = (shape.queries, shape.keys, shape.keys, shape.queries)
    q, k, v, dout = (_normal(rng, (batch, n, shape.heads, shape.d), dtype) for n in counts)
    plain = partial(dot_product_attention, compute="reference")
    names = "output", "dq", "dk", "dv"
    forms = partial(attention_kernels, interpret), plain, plain
    return _distances(names, *forms, (q, k, v), dout)


def compare_feed_forward(
    shape: FeedForwardShape, batch: int, dtype: str, tile: int, interpret: Interpreter = False
) -> Distances:
    """Compares fc2(GELU(y + DepthwiseConv3x3(y))), y = fc1(x), and its gradients.

    Args:
        shape: of an image.
        batch: images.
        dtype: of the maps; parameters are float32.
        tile: how many images the kernels take at a time.
        interpret: as `pl.pallas_call` takes it.
    """
    rng = np.random.default_rng(0)
    x, dout = (_normal(rng, (batch, *shape[:3]), dtype) for _ in range(2))

    def plain(numerics: Numerics) -> Callable[..., jax.Array]:
        module = DetailFeedForward(shape.hidden_dim, numerics=numerics)
        return lambda x, params: module.apply({"params": params}, x)

    leaves = jax.eval_shape(DetailFeedForward(shape.hidden_dim).init, jax.random.key(0), x)
    # A sum over n inputs has weights of 1 / sqrt(n): every map's values are then about 1.
    params = jax.tree.map(
        lambda leaf: _normal(rng, leaf.shape, "float32") * math.prod(leaf.shape[:-1]) ** -0.5,
        leaves["params"],
    )
    names = (
        "output",
        "dx",
        *(
            f"d{jax.tree_util.keystr(path, simple=True, separator='/')}"
            for path, _ in jax.tree.leaves_with_path(params)
        ),
    )
    forms = (
        partial(feed_forward_kernels, tile, interpret),
        plain(Numerics(jnp.dtype(dtype), compute="reference")),
        plain(Numerics(compute="reference")),
    )
    return _distances(names, *forms, (x, params), dout)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape, np.float32), dtype)


def _distances(
    names: tuple[str, ...],
    kernel: Callable[..., jax.Array],
    plain: Callable[..., jax.Array],
    exact: Callable[..., jax.Array],
    arguments: tuple[Any, ...],
    dout: jax.Array,
) -> Distances:
    forms = (kernel,) if dout.dtype == jnp.float32 else (kernel, plain)
    results = [_both_ways(form, arguments, dout) for form in forms]
    exactly = _both_ways(
        exact, *jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (arguments, dout))
    )
    found = [dict(zip(names, map(_distance, result, exactly), strict=True)) for result in results]
    return Distances(*found)


def _both_ways(
    form: Callable[..., jax.Array], arguments: tuple[Any, ...], dout: jax.Array
) -> list[np.ndarray]:
    """Returns the output and the gradients with respect to all arrays, in float64."""

    @jax.jit
    def program(arguments, dout):
        out, pullback = jax.vjp(form, *arguments)
        return out, pullback(dout)

    # A TPU's products of float32 are otherwise those of bfloat16.
    exact = "highest" if dout.dtype == jnp.float32 else None
    with jax.default_matmul_precision(exact):
        results = program(arguments, dout)
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(results)]


def _distance(ours: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))
