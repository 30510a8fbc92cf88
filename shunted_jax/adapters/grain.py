"""Grain: a transformation of our own among its, its worker processes, how many batches they hold.

Grain has a transformation that repeats elements, but its random draws depend on how many
transformations come before them: with another one, the same seed would give other batches.
"""

import re
import sys
from multiprocessing import resource_tracker

import grain.python as grain

# How many batches of one worker lie in shared memory at most: one that is being copied there, one
# in the queue to the main process, and there one that is ready and one that waits to be.
BATCHES_OF_A_WORKER = 4


class InARow(grain.MapDataset):
    """Takes each element of the parent `times` times in a row, for as long as the parent is."""

    def __init__(self, parent: grain.MapDataset, times: int):
        """Takes over `parent`, whose elements beyond its length are those of the next epochs."""
        super().__init__(parent)
        self._times = times

    def __len__(self) -> int:
        """The length of an epoch, which is the parent's."""
        return len(self.parents[0])

    def __getitem__(self, index):
        """Returns an element of an epoch; of a slice, a data set."""
        if isinstance(index, slice):
            return self.slice(index)
        epoch, position = divmod(index, len(self))
        return self.parents[0][epoch * len(self) + position // self._times]


def start_helper_of_workers() -> None:
    """Starts the helper process that Python has for worker processes, where there is none yet.

    Started with the first worker, it would let through the signals that the starting thread holds
    back. It also clears away the shared memory that Grain leaves where workers end with batches
    ready, and is told here not to warn of it.
    """
    sys.warnoptions.append("ignore:resource_tracker")  # the helper inherits them
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def exit_code_of_worker(error: BaseException) -> int | None:
    """Returns with what a worker process ended that nobody told to; None if that is not the error.

    Args:
        error: which reading a batch raised. The number of a signal that ended it is negative.
    """
    said = re.search(r"process was terminated unexpectedly with exit code (-?\d+)", str(error))
    return int(said[1]) if said and isinstance(error, RuntimeError) else None
