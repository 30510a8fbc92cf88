"""Which devices share the batch of the program being traced.

The network's code knows of no mesh. Whoever traces a program for one says so with
`jax.sharding.use_abstract_mesh` or `jax.set_mesh`, as `training/step/programs.py` does. The batch
is taken to be split over all its axes.
"""

import math

import jax


def batch_axes() -> dict[str, int]:
    """Returns the axes, with their sizes, that split the batch of the program being traced.

    Inside of `jax.shard_map` arrays are one device's already, and its axes are left out.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return {name: size for name, size in mesh.shape.items() if name not in mesh.manual_axes}


def batch_devices() -> int:
    """Returns how many devices split the batch of the program being traced."""
    return math.prod(batch_axes().values())
