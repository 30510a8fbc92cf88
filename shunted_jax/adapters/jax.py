"""JAX: what it says where no scheduler tells a process of others, and how it lowers programs."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax._src import dispatch
from jax.extend.core import Primitive
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def found_no_cluster(error: ValueError) -> bool:
    """Returns whether `jax.distributed.initialize()` found no cluster that it knows.

    Args:
        error: which it raised, called without addresses.
    """
    return "coordinator_address should be defined" in str(error)


def lower_with_devices(primitive: Primitive) -> None:
    """Has programs that hold a primitive lowered for devices that its lowering knows.

    JAX leaves the devices open while it lowers, unless a program holds a primitive of this list:
    cuDNN's attention asks which they are, to split its batch among them. JAX looks for it among the
    primitives of the traced program, where a lowering that traces further cannot put it.
    """
    dispatch.prim_requires_devices_during_lowering.add(primitive)


def without_explicit_axes(
    avals: Sequence[Any], mesh: jax.sharding.AbstractMesh
) -> tuple[list[Any], jax.sharding.AbstractMesh]:
    """Returns types and a mesh in which the compiler decides how arrays are split.

    What is traced with them need not say it where the axes of a mesh are Explicit, as those that
    `jax.make_mesh` makes are by default.

    Args:
        avals: the types of a primitive's arguments, as its lowering rule finds them.
        mesh: that was current where the program was traced.
    """

    def automatic(mesh):
        kinds = zip(mesh.axis_names, mesh.axis_types or (), strict=True)
        explicit = {name: AxisType.Auto for name, kind in kinds if kind == AxisType.Explicit}
        return mesh.update_axis_types(explicit) if explicit else mesh

    loosened = []
    for aval in avals:
        now = automatic(aval.sharding.mesh)
        if now is not aval.sharding.mesh:
            mesh = now
            aval = aval.update(sharding=NamedSharding(now, PartitionSpec()))
        loosened.append(aval)
    return loosened, automatic(mesh)


@functools.cache
def has_cudnn_attention() -> bool:
    """Returns whether programs for CUDA can hold cuDNN's attention.

    JAX asks for cuDNN while it traces, and an installation without CUDA, which can lower a program
    for a GPU all the same, has none. cuDNN's attention needs a GPU of compute capability 8.0.
    """
    heads = jax.ShapeDtypeStruct((1, 2, 1, 8), jnp.bfloat16)
    try:
        jax.eval_shape(
            functools.partial(jax.nn.dot_product_attention, implementation="cudnn"), *[heads] * 3
        )
    except RuntimeError:
        return False
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:  # none here: the program is for another machine
        return True
    return all(float(device.compute_capability) >= 8 for device in devices)
