"""JAX: what it says where no scheduler tells a process of others, and lowering with devices."""

import functools

import jax
import jax.numpy as jnp
from jax._src import dispatch
from jax.extend.core import Primitive


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
