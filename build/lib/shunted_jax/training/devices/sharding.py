"""Where arrays live: a mesh of devices, and one rule for parameters and optimizer state.

The batch is split over all devices. Parameters and optimizer state are split over the axis `fsdp`
and copied along the axis `data`; with fsdp=1, the default, each device holds all of them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from shunted_jax.config import MeshConfig
from shunted_jax.errors import UserError

BATCH_SPEC = P(("data", "fsdp"))

# Splitting a tensor smaller than this costs more in communication than it saves in memory.
_MIN_SIZE_TO_SPLIT = 2**14


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh of all devices with axes `data` and `fsdp`.

    Args:
        config: the sizes of the axes.
        devices: other than all that there are.

    Raises:
        UserError: the sizes asked for do not use up the devices that there are.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    sizes = [config.data, config.fsdp]
    if -1 in sizes:
        known = max(sizes)
        sizes[sizes.index(-1)] = count // known
    if np.prod(sizes) != count:
        raise UserError(
            f"config.mesh.data={config.data} and config.mesh.fsdp={config.fsdp} do not use up the "
            f"{count} devices there are: their product must be {count} (-1 takes the rest)"
        )
    # Process by process; `jax.make_mesh` may interleave those of a pod. The rows that a process
    # reads then follow each other in the global batch, which is the same for any number of
    # processes. And `fsdp` groups keep within one process as long as they fit.
    in_order = sorted(devices, key=lambda device: (device.process_index, device.id))
    # Explicit axes, which `jax.make_mesh` would give, make Linen's dropout and convolutions ask for
    # every output's sharding.
    return Mesh(
        np.array(in_order).reshape(sizes),
        ("data", "fsdp"),
        axis_types=(AxisType.Auto, AxisType.Auto),
    )


def state_shardings(abstract_state: Any, mesh: Mesh) -> Any:
    """Returns a `NamedSharding` for each leaf: its largest axis that `fsdp` divides is split.

    Args:
        abstract_state: a tree of arrays or `jax.ShapeDtypeStruct`; optimizer moments have their
            parameters' shapes and so get their shardings.
        mesh: as `make_mesh` returns it.
    """
    fsdp = mesh.shape["fsdp"]

    def sharding(leaf) -> NamedSharding:
        spec = [None] * leaf.ndim
        divisible = [axis for axis in range(leaf.ndim) if leaf.shape[axis] % fsdp == 0]
        if fsdp > 1 and leaf.size >= _MIN_SIZE_TO_SPLIT and divisible:
            spec[max(divisible, key=lambda axis: leaf.shape[axis])] = "fsdp"
        return NamedSharding(mesh, P(*spec))

    return jax.tree.map(sharding, abstract_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns how a batch lies: its first axis split over all devices."""
    return NamedSharding(mesh, BATCH_SPEC)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device holds whole."""
    return NamedSharding(mesh, P())


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes global arrays of each host's own rows."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()
    }


def put_variables(variables: dict[str, Any], abstract: dict[str, Any]) -> dict[str, Any]:
    """Returns numpy arrays as global ones, each device given its shard alone.

    Args:
        variables: nested dicts of numpy arrays; a `jax.Array` among them stays as it is.
        abstract: leaves with a shape, a dtype and a sharding in the same places.
    """

    def put(leaf: np.ndarray | jax.Array, wanted: Any) -> jax.Array:
        if isinstance(leaf, jax.Array):
            return leaf
        leaf = np.asarray(leaf).astype(wanted.dtype, copy=False)
        return jax.make_array_from_callback(wanted.shape, wanted.sharding, leaf.__getitem__)

    return jax.tree.map(put, variables, abstract)


def add_over_hosts(numbers: np.ndarray, mesh: Mesh) -> jax.Array:
    """Returns the sum of the arrays that the hosts give, on each of them; all must call it.

    The devices add up behind what they are at, and nobody waits for it here.

    Args:
        numbers: of the same shape and dtype on every host; unsigned ones wrap around.
        mesh: as `make_mesh` returns it.
    """
    rows = np.zeros((mesh.local_mesh.size, *numbers.shape), numbers.dtype)
    rows[0] = numbers
    return _sum_of_rows(mesh)(put_batch({"rows": rows}, mesh)["rows"])


def sum_over_hosts(number: int, mesh: Mesh) -> int:
    """Returns the sum of what the hosts give, on each of them; all must call it."""
    return int(add_over_hosts(np.int32(number), mesh))


@functools.cache
def _sum_of_rows(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    # Kept, so that it is compiled once for each shape.
    return jax.jit(functools.partial(jnp.sum, axis=0), out_shardings=replicated(mesh))
