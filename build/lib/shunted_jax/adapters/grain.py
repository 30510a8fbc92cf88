"""Grain: a transformation of our own among its, and what its worker processes need first.

Grain has a transformation that repeats elements, but its random draws depend on how many
transformations come before them: with another one, the same seed would give other batches.
"""

from multiprocessing import resource_tracker

import grain.python as grain


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
    back.
    """
    resource_tracker.ensure_running()
