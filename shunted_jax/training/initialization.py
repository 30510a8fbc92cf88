"""Initial variables straight into their shards, without one large program that makes them all.

A random generator for each of hundreds of tensors takes the compiler longer than a training step
does. Here tensors of the same distribution, shape and sharding share a program, which is given the
key of each.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import traverse_util
from flax.core.scope import LazyRng
from flax.typing import Initializer

from shunted_jax.models.initializers import initializer_at

_ON_CPU = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def init_variables(abstract: dict[str, Any], key: jax.Array) -> dict[str, Any]:
    """Returns the variables that `ShuntedTransformer.init` draws with `key`, within rounding.

    Args:
        abstract: all collections; leaves with a shape, a dtype and a `NamedSharding`.
        key: decides the values.
    """
    drawn = {}
    for path, leaf in traverse_util.flatten_dict(abstract).items():
        initializer = initializer_at(path, len(leaf.shape))
        # A kernel is the first parameter of its module, to which Flax gives this key.
        of_leaf = LazyRng.create(key, *path[1:-1], 1).as_jax_rng() if path[-1] == "kernel" else key
        drawn[path] = _draw(initializer, leaf.shape, leaf.dtype, leaf.sharding)(of_leaf)
    return traverse_util.unflatten_dict(drawn)


@functools.cache
def _draw(
    initializer: Initializer, shape: tuple[int, ...], dtype: Any, sharding: jax.sharding.Sharding
) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(
        lambda key: initializer(key, shape, dtype),
        out_shardings=sharding,
        compiler_options=quick_options(sharding.mesh),
    )


def quick_options(mesh: jax.sharding.Mesh) -> dict[str, Any] | None:
    """Returns compiler options for programs that run once; None but for CPUs."""
    return _ON_CPU if mesh.devices.flat[0].platform == "cpu" else None
