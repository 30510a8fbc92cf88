"""Pallas kernels in programs for several devices: each device's kernel takes its part of the batch.

The network's code knows of no mesh. Whoever traces a program for one says so with
`jax.sharding.use_abstract_mesh` or `jax.set_mesh`, as `training/programs.py` does; the batch is
taken to be split over all its axes.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

FORMS = ("plain", "fused")


def batch_axes() -> dict[str, int]:
    """Returns the axes, with their sizes, that split the batch of the program being traced.

    Inside of `jax.shard_map` arrays are one device's already, and its axes are left out.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return {name: size for name, size in mesh.shape.items() if name not in mesh.manual_axes}


def batch_devices() -> int:
    """Returns how many devices split the batch of the program being traced."""
    return math.prod(batch_axes().values())


def on_each_device(
    kernel: Callable[..., Any], maps: tuple[jax.Array, ...], weights: Any
) -> tuple[Any, Any]:
    """Calls `kernel` for each device's part of the batch: XLA cannot split a kernel by itself.

    Args:
        kernel: (maps, weights, interpret) -> (maps, sums over the batch).
        maps: arrays whose first axis is the batch.
        weights: whole on every device.

    Returns:
        What the kernel does, of the whole batch.
    """
    axes = tuple(batch_axes())

    def local(maps, weights):
        # Whatever is not a TPU has the interpreter, for tests.
        out, sums = jax.lax.platform_dependent(
            maps,
            weights,
            tpu=partial(kernel, interpret=False),
            default=partial(kernel, interpret=True),
        )
        return out, jax.lax.psum(sums, axes) if axes else sums

    if not axes:
        return local(maps, weights)
    specs = (P(axes), P())
    return jax.shard_map(
        local, in_specs=specs, out_specs=specs, axis_names=set(axes), check_vma=False
    )(maps, weights)
