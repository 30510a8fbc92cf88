"""One run writes into a folder: its processes hold the folder's lock together."""

import time

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from shunted_jax.errors import LockError
from shunted_jax.locks import Lock
from shunted_jax.training.devices.distributed import is_first_process
from shunted_jax.training.devices.preemption import StopRequest
from shunted_jax.training.devices.sharding import add_over_hosts


class RunLock:
    """The lock of a run's folder. The first process takes it; all make the same calls.

    Use it as a context manager, around whatever is written into the folder.
    """

    def __init__(self, workdir: epath.Path, mesh: Mesh, stop: StopRequest):
        """Takes nothing yet.

        Args:
            workdir: the run's folder; it exists, or is in a bucket.
            mesh: that of the run.
            stop: ends the waiting for a run that may still be there.
        """
        self._workdir, self._mesh, self._stop = workdir, mesh, stop
        self._lock: Lock | None = None

    def __enter__(self) -> "RunLock":
        """Takes it.

        Raises:
            LockError: another run writes into the folder, or the lock's file cannot be written.
            PreemptedError: SIGTERM came while it was not clear whether another run is there.
        """
        while not self._agree(self._attempt):
            self._stop.check_at_once()
            time.sleep(1)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def check(self) -> None:
        """To be called before anything is written that another run may have written, too.

        Raises:
            LockError: another run has the folder now, or the lock's file is gone or unreadable.
        """
        self._agree(self._check)

    def _attempt(self) -> bool:
        if self._lock is None:
            self._lock = Lock(
                self._workdir / "lock.json",
                self._workdir,
                "wait until it ends, or name another --workdir",
            )
        return self._lock.attempt()

    def _check(self) -> bool:
        self._lock.check()
        return True

    def _agree(self, ask) -> bool:
        """Returns on all processes what the first one is told, or raises on all of them."""
        answer, error = False, None
        if is_first_process():
            try:
                answer = ask()
            except Exception as caught:  # whatever it is, the others must not wait for this one
                error = caught
        if jax.process_count() > 1:
            mine = np.array([answer, error is not None], np.int32)
            answer, failed = map(bool, np.asarray(add_over_hosts(mine, self._mesh)))
            if failed and error is None:
                raise LockError(f"process 0 may not write into {self._workdir}: it says why")
        if error is not None:
            raise error
        return answer
