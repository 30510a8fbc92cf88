"""A lock in a bucket: an object that is written, renewed and deleted on conditions.

Each write makes another generation of it. The service compares generations, so that of two who
write at once exactly one does.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from shunted_jax.errors import LockError, UserError, in_a_line
from shunted_jax.locks.owner import Found, Owner, owner_in
from shunted_jax.storage import EXTRA


class BucketLock:
    """A lock that is an object in a bucket of Cloud Storage."""

    def __init__(self, path: str | os.PathLike):
        """Asks nothing yet; path is an address such as gs://bucket/run/lock.json.

        Raises:
            UserError: Google's client is not installed, or knows no account.
        """
        try:
            from google.api_core import exceptions
            from google.cloud import storage
        except ImportError:
            raise UserError(f"{path}: to write into buckets, pip install '{EXTRA}'") from None
        self._path = os.fspath(path)
        self._changed = exceptions.PreconditionFailed, exceptions.NotFound
        bucket, _, self._name = self._path.partition("://")[2].partition("/")
        with self._clear_errors():
            self._bucket = storage.Client(project=None).bucket(bucket)
        self._owner: Owner | None = None
        self._generation = 0

    def take(self, owner: Owner) -> Found | None:
        """Takes it, and returns None, if it is free or its owner is known to be dead.

        Returns:
            Who holds it, otherwise.

        Raises:
            LockError: the bucket cannot be asked.
        """
        self._owner = owner
        while True:
            if self._write(replaced=0):
                return None
            found = self._look()
            if found is None:
                continue
            if found.lives is not False:
                return found
            self.remove(found)

    def remove(self, found: Found) -> None:
        """Takes away the lock of an owner who is dead, unless it changed since it was found."""
        with self._clear_errors(), contextlib.suppress(*self._changed):
            self._object().delete(if_generation_match=found.mark)

    def renew(self) -> None:
        """Shows others that this owner lives."""
        self._write(replaced=self._generation)

    def current(self) -> Owner | None:
        """Returns who holds it now; None where nobody does."""
        found = self._look()
        return found and found.owner

    def release(self) -> None:
        """Lets others take it; what is another's by now stays."""
        with contextlib.suppress(LockError):
            self.remove(Found(self._owner, self._generation, True))

    def _write(self, replaced: int) -> bool:
        """Writes the owner where that generation of the object is, 0 for none; says if it did."""
        new = self._object()
        with self._clear_errors():
            try:
                new.upload_from_string(self._owner.to_json(), if_generation_match=replaced)
            except self._changed:
                # If an answer is lost, the client asks again, and meets what it wrote itself.
                found = self._look()
                if found is None or found.owner != self._owner:
                    return False
                self._generation = found.mark
                return True
        self._generation = int(new.generation)
        return True

    def _look(self) -> Found | None:
        there = self._object()
        with self._clear_errors():
            try:
                owner = owner_in(there.download_as_bytes())
            except self._changed:
                return None
        return Found(owner, int(there.generation), owner and owner.lives())

    def _object(self) -> Any:
        return self._bucket.blob(self._name)  # a new one: each remembers a generation

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except (LockError, *self._changed):
            raise
        except Exception as error:  # of sockets, HTTP, credentials: whatever stands in between
            raise LockError(
                f"{self._path} cannot be written or read: {in_a_line(error)}; once it can be, "
                "start again"
            ) from error
