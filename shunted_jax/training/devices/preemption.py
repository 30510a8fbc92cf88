"""SIGTERM, by which a machine is taken away: noticed between steps, by all hosts at the same."""

import collections
import signal
import threading
from types import FrameType

import jax
import numpy as np
from jax.sharding import Mesh

from shunted_jax.errors import PreemptedError
from shunted_jax.training.devices.sharding import add_over_hosts

# How many steps a host's wish to stop is on its way: as many as the host is ahead of the devices,
# so that asking never waits for them.
_STEPS_TO_AGREE = 2


class StopRequest:
    """Notes SIGTERM while it is entered; a second one changes nothing.

    With one process, `agreed` is true from the next call on. With several, all of them must call it
    after the same steps: each puts in its own note, the devices add them up behind the step, and
    all read the same sum two calls later, without waiting for it.
    """

    def __init__(self, mesh: Mesh):
        """Takes note of nothing yet; mesh is that of the run."""
        self._mesh = mesh
        self._noted = False
        self._before = None
        self._sums: collections.deque[jax.Array] = collections.deque()

    def __enter__(self) -> "StopRequest":
        # Python only lets the main thread handle signals; a notebook's or a test's thread does
        # without.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # No logging here: the signal may have come in the middle of it.
        del number, frame
        self._noted = True

    def agreed(self) -> bool:
        """Returns whether to stop after this step; the same on all hosts."""
        if jax.process_count() == 1:
            return self._noted
        self._sums.append(self._sum())
        return len(self._sums) > _STEPS_TO_AGREE and int(self._sums.popleft()) > 0

    def agreed_at_once(self) -> bool:
        """Returns the same about all that came until now, and waits for it."""
        return int(self._sum()) > 0 if jax.process_count() > 1 else self._noted

    def check_at_once(self) -> None:
        """Raises PreemptedError, on all hosts, if it came; to be called before the first step."""
        if self.agreed_at_once():
            raise PreemptedError("stopped by SIGTERM before the first step: nothing is lost")

    def _sum(self) -> jax.Array:
        return add_over_hosts(np.int32(self._noted), self._mesh)
