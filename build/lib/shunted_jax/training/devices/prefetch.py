"""Batches on their way to the devices before a step asks for them."""

import collections
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from shunted_jax.training.devices.sharding import put_batch


def prefetch_to_device(
    batches: Iterable[dict[str, np.ndarray]], mesh: Mesh, ahead: int = 1
) -> Iterator[dict[str, jax.Array]]:
    """Yields `batches` as global arrays, those to come already in transfer.

    A transfer starts at once and runs beside the step before it. Without this, the first step after
    each look at the metrics, which waits for the devices, would wait for its images, too.

    Args:
        batches: each host's own rows.
        mesh: as `sharding.make_mesh` returns it.
        ahead: how many batches lie on the devices besides the one in use.
    """
    waiting: collections.deque[dict[str, jax.Array]] = collections.deque()
    for batch in batches:
        waiting.append(put_batch(batch, mesh))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting
