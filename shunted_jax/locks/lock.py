"""Taking a lock, keeping it, and noticing that it is lost."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from etils import epath

from shunted_jax.errors import LockError
from shunted_jax.locks.bucket import BucketLock
from shunted_jax.locks.folder import FolderLock
from shunted_jax.locks.owner import Found, Owner, this_process
from shunted_jax.storage import in_bucket

logger = logging.getLogger(__name__)

# How often an owner shows that it lives.
BEAT_SECONDS = 15.0
# How long it may show nothing before it is taken for dead. On NFS, others may see a change late.
STALE_SECONDS = 120.0
# After a dead owner's lock was taken, how long others may have been about to do the same.
_SETTLE_SECONDS = 2.0


class Lock:
    """A lock on a folder, or on what is to become one. Once released, it is not to be used."""

    def __init__(self, path: epath.Path, subject: epath.Path, remedy: str):
        """Takes nothing yet.

        Args:
            path: of the lock's file, in a folder that is there, or in a bucket.
            subject: what it is a lock of, for messages.
            remedy: what to do where another one has it.

        Raises:
            UserError: it is in a bucket, and what is needed for that is not installed.
            LockError: the bucket cannot be asked.
        """
        self._path, self._subject, self._remedy = path, subject, remedy
        self._place = BucketLock(path) if in_bucket(path) else FolderLock(path)
        self._owner = this_process()
        self._waits_for: tuple[Found, float] | None = None
        self._beats: threading.Thread | None = None
        self._over = threading.Event()

    def attempt(self) -> bool:
        """Returns True once the lock is taken, and False to be called again in a second.

        Raises:
            LockError: another process has it, and lives, or its file cannot be written.
        """
        with self._clear_errors():
            found = self._place.take(self._owner)
            if found is not None:
                self._judge(found)
                return False
            if self._waits_for is not None:
                time.sleep(_SETTLE_SECONDS)
                if not self._is_mine():
                    self._place.release()
                    raise self._refusal(self._place.current(), sure=True)
        self._beats = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._beats.start()
        return True

    def check(self) -> None:
        """Raises LockError if another process took the lock, or its file is gone or unreadable."""
        with self._clear_errors():
            if self._is_mine():
                return
            now = self._place.current()
        who = f"{now.describe()}, has it" if now else f"{self._path} is gone"
        raise LockError(
            f"{self._subject} is no longer this process's to write: {who}. Nothing was written "
            "over, and what was saved stays. See that no other process writes there, then start "
            "again"
        )

    def release(self) -> None:
        """Lets others take it, if it was taken."""
        if self._beats is not None:
            self._over.set()
            self._beats.join(timeout=5)  # a bucket may take longer to answer, which harms nothing
            self._place.release()
            self._beats = None

    def _is_mine(self) -> bool:
        now = self._place.current()
        return now is not None and now.id == self._owner.id

    def _judge(self, found: Found) -> None:
        """Raises if the owner lives, takes the lock away if it is dead, else lets time pass."""
        if found.lives:
            raise self._refusal(found.owner, sure=True)
        if self._waits_for is None:
            self._waits_for = found, time.monotonic()
            logger.warning(
                "%s: %s may still write there; waiting up to %.0f s for a sign of life",
                *(self._subject, _describe(found.owner), STALE_SECONDS),
            )
        first, since = self._waits_for
        if found.mark != first.mark:
            # Who wrote it between two looks may have been about to write who it is.
            if first.owner is not None or found.owner is None:
                raise self._refusal(found.owner, sure=False)
            self._waits_for = found, time.monotonic()
        elif time.monotonic() - since >= STALE_SECONDS:
            logger.warning("%s: no sign of life, so it is taken over", self._subject)
            self._place.remove(found)

    def _refusal(self, owner: Owner | None, *, sure: bool) -> LockError:
        by_hand = "" if sure else f". If you know that it has ended, delete {self._path}"
        return LockError(
            f"{self._subject} is in use by {_describe(owner)}: {self._remedy}{by_hand}"
        )

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            # What stands in the way may pass; whether the lock is still there, `check` asks.
            with contextlib.suppress(OSError, LockError):
                self._place.renew()

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LockError(
                f"{self._path} cannot be written or read: {error.strerror or error}; once it can "
                "be, start again"
            ) from error


@contextlib.contextmanager
def alone_at(path: epath.Path) -> Iterator[None]:
    """Lets one process at a time make what is to be at `path`, in a folder that is there.

    Raises:
        LockError: another process makes it, or nothing can be written beside it.
    """
    lock = Lock(
        path.parent / f".{path.name}.lock", path, "wait until it is done, or name another one"
    )
    while not lock.attempt():
        time.sleep(1)
    try:
        yield
    finally:
        lock.release()


def _describe(owner: Owner | None) -> str:
    return "a process that does not say which it is" if owner is None else owner.describe()
