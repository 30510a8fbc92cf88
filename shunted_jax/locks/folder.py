"""A lock in a folder, of this host or shared by several.

Only one process can make the file, on NFS too. It asks the kernel for a lock on it besides, which
goes with the process, however that ends. Not all file systems tell other hosts of such a lock, and
some have none. So it counts between processes that see the file through the same kernel and the
same mount.
"""

import contextlib
import dataclasses
import fcntl
import os
import time
from typing import Any

from shunted_jax.locks.owner import Found, Owner, owner_in

# How often, and how far apart in seconds, to look at a lock whose owner seems to live: the kernel
# may keep it for another one that is just looking, or its file is just being written.
_LOOKS, _PAUSE = 5, 0.1


class FolderLock:
    """A lock that is a file."""

    def __init__(self, path: str | os.PathLike):
        """Does nothing yet; path is the file's, in a folder that is there."""
        self._path = os.fspath(path)
        self._owner: Owner | None = None
        self._file: int | None = None

    def take(self, owner: Owner) -> Found | None:
        """Takes it, and returns None, if it is free or its owner is known to be dead.

        Returns:
            Who holds it, otherwise.

        Raises:
            OSError: as the file system says.
        """
        looks = _LOOKS
        while True:
            try:
                file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            except FileExistsError:
                found = self._look()
                if found is None:
                    continue
                looks -= 1
                if not looks or not (found.lives or found.owner is None):
                    return found
                time.sleep(_PAUSE)
                continue
            self._write(file, owner)
            return None

    def remove(self, found: Found) -> None:
        """Takes away the lock of an owner who is dead, unless it changed since it was found."""
        self._look(dead=found.mark)

    def renew(self) -> None:
        """Shows others that this owner lives."""
        if self._file is not None:
            os.utime(self._file)

    def current(self) -> Owner | None:
        """Returns who holds it now; None where nobody does."""
        try:
            with open(self._path, "rb") as file:
                return owner_in(file.read())
        except FileNotFoundError:
            return None

    def release(self) -> None:
        """Lets others take it; what is another's by now stays."""
        with contextlib.suppress(OSError):
            if self.current() == self._owner:
                os.unlink(self._path)
        os.close(self._file)
        self._file = None

    def _write(self, file: int, owner: Owner) -> None:
        self._file = file
        try:
            kept = next((kept for kept in _tries(file) if kept is not False), None)
            # Without the kernel's lock, nobody may conclude anything from there being none.
            device = os.fstat(file).st_dev if kept else None
            self._owner = dataclasses.replace(owner, device=device)
            os.write(file, self._owner.to_json().encode())
            os.fsync(file)
        except BaseException:
            self._owner = None  # who is in the file now, unless it is another's
            self.release()
            raise

    def _look(self, dead: Any = None) -> Found | None:
        """Returns who holds it; None if nobody does, or a dead one did, whose lock is removed."""
        try:
            file = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            free = _keep(file)
            there = os.fstat(file)
            owner = owner_in(os.pread(file, 2**16, 0))
            mark = (there.st_ino, there.st_mtime_ns, owner)
            lives = _lives(owner, free, there.st_dev)
            if lives is not False and mark != dead:
                return Found(owner, mark, lives)
            # Among those who see the same kernel's locks, only who has this one removes the file.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(there, os.stat(self._path)):
                    os.unlink(self._path)
            return None
        finally:
            os.close(file)


def _lives(owner: Owner | None, free: bool | None, device: int) -> bool | None:
    if owner is None:
        return None
    if free is not None and owner.device == device and owner.on_this_machine():
        return not free
    return owner.lives()


def _tries(file: int):
    for _ in range(_LOOKS):
        yield _keep(file)
        time.sleep(_PAUSE)


def _keep(file: int) -> bool | None:
    """Has the kernel lock a file until it is closed, and returns whether it does so.

    None is for file systems that have no such locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
