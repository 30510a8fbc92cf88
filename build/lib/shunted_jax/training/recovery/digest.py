"""A number for each array of a state, to know a damaged one by, and whether all are finite."""

import dataclasses
from typing import Any

import jax
import numpy as np

from shunted_jax.training.devices.sharding import add_over_hosts


@dataclasses.dataclass(frozen=True)
class Digest:
    """What `digest` found; the same on every host and every mesh.

    Attributes:
        sums: of each array's bits, weighted by their place, by the array's path.
        not_finite: the paths of arrays that hold a NaN or an infinity.
    """

    sums: dict[str, int]
    not_finite: list[str]


def digest(state: Any) -> Digest:
    """Looks at every bit of `state`; all hosts must call it."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    # On the host, through which a checkpoint's arrays pass in any case: a device's program for each
    # of their shapes would take seconds to compile.
    rows = np.array([_sum_and_faults(leaf) for _, leaf in leaves], np.uint32)
    if jax.process_count() > 1:
        # The sums wrap around here, too.
        rows = np.asarray(add_over_hosts(rows, leaves[0][1].sharding.mesh))
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return Digest(
        sums={path: int(total) for path, total in zip(paths, rows[:, 0], strict=True)},
        not_finite=[path for path, faults in zip(paths, rows[:, 1], strict=True) if faults],
    )


def changed_arrays(before: dict[str, int], now: dict[str, int]) -> list[str]:
    """Returns the paths at which two digests' sums differ."""
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


def _sum_and_faults(leaf: jax.Array) -> tuple[int, int]:
    """Returns this host's share of an array's sum, and whether a number in it is not finite."""
    total, faults = 0, 0
    for shard in leaf.addressable_shards:
        if shard.replica_id:
            continue  # another device, perhaps of another host, counts this part of the array
        part = np.asarray(shard.data)
        faults |= int(not np.isfinite(part).all())
        bits = part.view(f"uint{8 * part.dtype.itemsize}").astype(np.uint32)
        # Odd weights, so that any one bit that changes changes the sum; it wraps around.
        bits *= 2 * _places(shard.index, leaf.shape) + 1
        total += int(np.sum(bits, dtype=np.uint32))
    return total % 2**32, faults


def _places(index: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Returns where each number of a part lies in its whole array, counted row by row."""
    places = np.zeros((), np.uint32)
    for axis, part in enumerate(index):
        places = places[..., None] * np.uint32(shape[axis]) + np.arange(
            *part.indices(shape[axis]), dtype=np.uint32
        )
    return places
