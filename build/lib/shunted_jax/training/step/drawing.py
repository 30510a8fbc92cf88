"""Initial variables, each drawn straight into its shards by a small program."""

import functools
from typing import Any

import jax

from shunted_jax.models.cut import Output, Program

_ON_CPU = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def draw(values: Any, key: jax.Array, shardings: Any) -> Any:
    """Returns the variables, drawn with `key`.

    Args:
        values: a tree of `Output`, as `initial_values` returns it.
        key: decides the variables.
        shardings: a `NamedSharding` for each, in the same places.
    """

    def draw_one(value: Output, sharding: jax.sharding.NamedSharding) -> jax.Array:
        return _compiled(value.program, sharding)(*value.keys(key))

    return jax.tree.map(draw_one, values, shardings)


# Bounded: a program with a function of its own in it is a new one in each trace.
@functools.lru_cache(maxsize=1024)
def _compiled(program: Program, sharding: jax.sharding.NamedSharding):
    return jax.jit(program, out_shardings=sharding, compiler_options=quick_options(sharding.mesh))


def quick_options(mesh: jax.sharding.Mesh) -> dict[str, Any] | None:
    """Returns compiler options for programs that run once; None but for CPUs."""
    return _ON_CPU if mesh.devices.flat[0].platform == "cpu" else None
