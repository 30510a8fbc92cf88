"""Batches of uint8 images: shuffled without end for training, each example once for evaluation.

The training stream is a pure function of (seed, step): which examples a global batch holds, and how
they are augmented, depends neither on the number of hosts and workers nor on where a run was
interrupted.
"""

import bisect
import logging
import weakref
from collections.abc import Iterator

import grain.python as grain
import numpy as np

from shunted_jax.adapters.grain import InARow, start_helper_of_workers
from shunted_jax.config import Config
from shunted_jax.data import processes
from shunted_jax.data.loading import NONE_BAD, LoadForEvaluation, LoadForTraining, reason_of
from shunted_jax.data.recipe import make_eval_transform, make_train_transform
from shunted_jax.data.sources import Source
from shunted_jax.data.workers import let_grain_ask_flags, naming_what_is_short
from shunted_jax.errors import UserError

logger = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]

# Raised when the same seed and step give another batch than before: a run that began with the
# batches of another version cannot go on.
PIPELINE_VERSION = 1


class Batches(Iterator[Batch]):
    """This host's share of the global batches, in order; a `RunError` where workers are gone."""

    def __init__(self, iterator: grain.DatasetIterator, source: Source):
        """Takes over `iterator`, whose batches have a "bad" column."""
        # Let go of before the interpreter takes its modules apart, when closing would fail loudly.
        self._iterator = [iterator]
        self._close = weakref.finalize(self, _close_and_forget, self._iterator)
        self._read = processes.read_first
        self._source = source
        self._named: set[int] = set()
        self._count = 0
        self._of_bad_images: list[int] = []  # the batch of each, counted from 0

    def __next__(self) -> Batch:
        if not self._iterator:
            raise StopIteration  # closed
        read, self._read = self._read, next
        with naming_what_is_short():
            batch = read(self._iterator[0])
        bad = batch.pop("bad")
        for number in bad[bad != NONE_BAD]:
            self._of_bad_images.append(self._count)
            if number not in self._named:
                self._named.add(number)
                reason = reason_of(self._source, int(number))
                why = f" ({reason})" if reason else ""
                name = self._source.describe(int(number))
                logger.warning("%s cannot be decoded%s: skipped", name, why)
        self._count += 1
        return batch

    def bad_images(self, batches: int) -> int:
        """Returns how many rows of the first so many batches stand for what cannot be decoded.

        Those that were read ahead are not among them: a run that is interrupted reads them again.
        """
        return bisect.bisect_left(self._of_bad_images, batches)

    def close(self) -> None:
        """Ends the workers; nothing can be read afterwards."""
        self._close()


def _close_and_forget(iterator: list[grain.DatasetIterator]) -> None:
    iterator.pop().close()


def train_batches(
    source: Source,
    config: Config,
    *,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Returns this host's share of the global batches, from `start_step` on, without end.

    Epochs follow each other without a gap: a batch may hold the end of one and the start of the
    next. Where images are repeated, an epoch takes each of them so many times in a row, augmented
    differently, and as many images as the source holds in all (repeated augmentation, arXiv
    1902.05509).

    Args:
        source: what to train on.
        config: of the run; `batch_size`, `seed`, `data` and `augment` are used.
        start_step: the first batch to return, counted from 0; starting late costs nothing.
        process_index: which host this is.
        process_count: the number of hosts.

    Returns:
        An iterator of {"image": uint8 [local batch, size, size, channels], "label": int32 [local
        batch]}; `close()` ends its workers.

    Raises:
        UserError: the hosts do not divide the global batch, or the source is empty; while
            iterating, an image is bad.
    """
    local_batch_size = _local_batch_size(config.batch_size, process_count)
    if not len(source):
        raise UserError("the training split holds no examples")
    load = LoadForTraining(source, make_train_transform(config), config.data.on_bad_image)
    order = grain.MapDataset.range(len(source)).seed(config.seed).shuffle()
    repeats = config.augment.repeats
    dataset = (
        (order if repeats == 1 else InARow(order, repeats))
        .repeat()  # reshuffles every epoch
        # Before hosts take their shares: randomness must not depend on them.
        .random_map(load)
        # Rounded up, the length of what has no end would be too large for Python in batches of one.
        .batch(local_batch_size, drop_remainder=True)
        # The hosts' rows lie one behind the other in the global batch, which is thus the same for
        # any number of them.
        .slice(slice(start_step * process_count + process_index, None, process_count))
    )
    return Batches(_iterate(dataset, config.data.num_workers, config.data.num_threads), source)


def eval_batches(
    source: Source, config: Config, *, process_index: int = 0, process_count: int = 1
) -> Batches:
    """Returns this host's share of every example once, the last global batch padded.

    Every batch has the same shape, and every host has as many.

    Args:
        source: what to evaluate on.
        config: of the run; `eval_batch_size` and `data` are used.
        process_index: which host this is.
        process_count: the number of hosts.

    Returns:
        An iterator of {"image": uint8 [local batch, size, size, channels], "label": int32 [local
        batch], "mask": bool [local batch]}; the mask is False for padding, whose images are zeros.

    Raises:
        UserError: the hosts do not divide the global batch, or the source is empty; while
            iterating, an image is bad.
    """
    local_batch_size = _local_batch_size(config.eval_batch_size, process_count)
    if not len(source):
        raise UserError("the evaluation split holds no examples")
    num_batches = -(-len(source) // config.eval_batch_size)
    load = LoadForEvaluation(source, make_eval_transform(config), config.data.on_bad_image)
    dataset = (
        grain.MapDataset.range(num_batches * config.eval_batch_size)
        .map(load)
        .batch(local_batch_size)
        .slice(slice(process_index, None, process_count))
    )
    workers = min(config.data.num_workers, num_batches)
    return Batches(_iterate(dataset, workers, config.data.num_threads), source)


def _iterate(dataset: grain.MapDataset, num_workers: int, num_threads: int) -> Iterator:
    # Each thread prepares a whole batch; what is ready waits in memory, hence no more of it.
    read_options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads + 1)
    iterable = dataset.to_iter_dataset(read_options)
    if num_workers:
        let_grain_ask_flags()
        start_helper_of_workers()  # now, as `read_first` holds signals back
        options = grain.MultiprocessingOptions(num_workers=num_workers)
        iterable = iterable.mp_prefetch(options, worker_init_fn=processes.start_worker)
    with naming_what_is_short():
        return iter(iterable)


def _local_batch_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(
            f"the global batch of {batch_size} cannot be shared evenly by {process_count} hosts: "
            f"take a multiple of {process_count}"
        )
    return batch_size // process_count
