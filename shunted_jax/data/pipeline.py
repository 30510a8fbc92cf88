"""Batches of uint8 images: shuffled without end for training, each example once for evaluation.

The training stream is a pure function of (seed, step): which examples a global batch holds, and how
they are augmented, depends neither on the number of hosts and workers nor on where a run was
interrupted.
"""

import signal
from collections.abc import Iterator
from typing import Any

import grain.python as grain
import numpy as np

from shunted_jax.data.sources import Source
from shunted_jax.data.transforms import EvalTransform, TrainTransform
from shunted_jax.errors import UserError

Batch = dict[str, np.ndarray]


def train_batches(
    source: Source,
    transform: TrainTransform,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int = 4,
) -> Iterator[Batch]:
    """Returns this host's share of the global batches, from `start_step` on, without end.

    Epochs follow each other without a gap: a batch may hold the end of one and the start of the
    next.

    Args:
        source: what to train on.
        transform: from an encoded example to what the network is given.
        batch_size: the global batch, over all hosts.
        seed: decides the order and the augmentation.
        start_step: the first batch to return, counted from 0; starting late costs nothing.
        process_index: which host this is.
        process_count: the number of hosts.
        num_workers: processes that prepare batches; 0 leaves it to threads of this one.
        num_threads: threads that read ahead, in each process.

    Returns:
        An iterator of {"image": uint8 [local batch, size, size, 3], "label": int32 [local batch]};
        `close()` ends its workers.

    Raises:
        UserError: the hosts do not divide the global batch, or the source is empty.
    """
    local_batch_size = _local_batch_size(batch_size, process_count)
    if not len(source):
        raise UserError("the training split holds no examples")
    dataset = (
        grain.MapDataset.source(source.examples)
        .seed(seed)
        .shuffle()
        .repeat()  # reshuffles every epoch
        .random_map(transform)  # before hosts take their shares: randomness must not depend on them
        .batch(local_batch_size)
        # The hosts' rows lie one behind the other in the global batch, which is thus the same for
        # any number of them.
        .slice(slice(start_step * process_count + process_index, None, process_count))
    )
    read_options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=4 * num_threads)
    iterable = dataset.to_iter_dataset(read_options)
    if num_workers:
        options = grain.MultiprocessingOptions(num_workers=num_workers)
        iterable = iterable.mp_prefetch(options, worker_init_fn=_ignore_interrupts)
    return iter(iterable)


def _ignore_interrupts(worker_index: int, worker_count: int) -> None:
    # A signal to the process group, as a preemption sends, must leave the workers alive until the
    # main process has saved: it ends them itself.
    del worker_index, worker_count
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def eval_batches(
    source: Source,
    transform: EvalTransform,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Yields this host's share of every example once, the last global batch padded.

    Every batch has the same shape, and every host yields as many.

    Args:
        source: what to evaluate on.
        transform: from an encoded example to what the network is given.
        batch_size: the global batch, over all hosts.
        process_index: which host this is.
        process_count: the number of hosts.

    Yields:
        {"image": uint8 [local batch, size, size, 3], "label": int32 [local batch],
        "mask": bool [local batch]}; the mask is False for padding, whose images are zeros.

    Raises:
        UserError: the hosts do not divide the global batch, or the source is empty.
    """
    local_batch_size = _local_batch_size(batch_size, process_count)
    if not len(source):
        raise UserError("the evaluation split holds no examples")
    padding = _padding_like(transform.map(source.examples[0]))
    for first in range(0, len(source), batch_size):
        start = first + process_index * local_batch_size
        rows = []
        for index in range(start, start + local_batch_size):
            real = index < len(source)
            row = transform.map(source.examples[index]) if real else padding
            rows.append({**row, "mask": np.bool_(real)})
        yield {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _padding_like(row: dict[str, Any]) -> dict[str, Any]:
    return {name: np.zeros_like(value) for name, value in row.items()}


def _local_batch_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(
            f"the global batch of {batch_size} cannot be shared evenly by {process_count} hosts: "
            f"take a multiple of {process_count}"
        )
    return batch_size // process_count
