"""Kernels in programs for several devices: each device's kernel takes its part of the batch."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from shunted_jax.ops.pallas.limits import Interpreter, only_where_it_runs
from shunted_jax.ops.partitioning import batch_axes


def on_each_device(
    kernel: Callable[..., Any], maps: tuple[jax.Array, ...], weights: Any, interpret: Interpreter
) -> tuple[Any, Any]:
    """Calls `kernel` for each device's part of the batch: XLA cannot split a kernel by itself.

    Args:
        kernel: (maps, weights) -> (maps, sums over the batch).
        maps: arrays whose first axis is the batch.
        weights: whole on every device.
        interpret: what `kernel` gives `pl.pallas_call`.

    Returns:
        What the kernel does, of the whole batch.
    """
    axes = tuple(batch_axes())

    def local(maps, weights):
        out, sums = kernel(maps, weights)
        return out, jax.lax.psum(sums, axes) if axes else sums

    maps = tuple(only_where_it_runs(*maps, interpret=interpret))
    if not axes:
        return local(maps, weights)
    specs = (P(axes), P())
    return jax.shard_map(
        local, in_specs=specs, out_specs=specs, axis_names=set(axes), check_vma=False
    )(maps, weights)
