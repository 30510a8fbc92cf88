"""What an operating system refuses, as a sentence: which resource it is about, and the remedy.

A refusal names a path or does not. Where it names none, the place in the program that catches it
knows what was being used.
"""

import contextlib
import dataclasses
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shunted_jax.adapters.tensorstore import errno_in
from shunted_jax.errors import RunError, UserError, causes

SHARED_MEMORY = "/dev/shm"

# What each refusal asks for.
_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or have the quota raised",
    errno.EFBIG: "make room for larger files (ulimit -f)",
    errno.EROFS: "name a folder that is not mounted read-only",
    errno.EACCES: "have its owner let you in, or name another",
    errno.EPERM: "have its owner let you in, or name another",
    errno.ENOTDIR: "name another, or move the file that is in the way",
    errno.EEXIST: "name another, or move the file that is in the way",
    errno.EISDIR: "name another, or move the folder that is in the way",
    errno.EIO: "look at the disk",
    errno.ESTALE: "look at the network's file system",
    errno.ENODEV: "look whether the disk is still mounted",
    errno.ENOTCONN: "look whether the disk is still mounted",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "raise the number of files that may be open (ulimit -n)",
    errno.ENFILE: "have fewer files open on this machine",
}
# Of writing alone: whoever reads does not hear of these.
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What an operating system did not do.

    Attributes:
        number: of `errno`.
        path: what it was asked for; None where that is not known.
    """

    number: int
    path: str | None = None

    @property
    def words(self) -> str:
        """What it says."""
        return os.strerror(self.number)

    @property
    def remedy(self) -> str:
        """What helps."""
        return _REMEDIES[self.number]

    def __str__(self) -> str:
        where = "" if self.path is None else f"{place_of(self.path)}: "
        return f"{where}{self.words}; {self.remedy}"

    def is_within(self, folder: str | os.PathLike) -> bool:
        """Returns whether it is about what is in a folder; where no path is known, it may be."""
        return self.path is None or Path(self.path).is_relative_to(os.path.abspath(folder))


def refusal(error: BaseException) -> Refusal | None:
    """Returns what an operating system refused; None if the program itself is to blame.

    Where no path is named, refusals of writing alone count: of the others, nobody could say what
    they are about.

    Args:
        error: what was raised; its causes are looked at, too. Those that are hidden count: etils's
            paths hide what a file system said.
    """
    for one in causes(error, hidden=True):
        if isinstance(one, OSError):
            name = one.filename if one.filename2 is None else one.filename2  # what was to be there
            path = os.fsdecode(name) if isinstance(name, (str, bytes)) else None
            if one.errno in (_OF_WRITING if path is None else _REMEDIES):
                return Refusal(one.errno, path)
        elif (number := errno_in(str(one), _OF_WRITING)) is not None:
            return Refusal(number)
    return None


@contextlib.contextmanager
def writing_into(folder: str | os.PathLike) -> Iterator[None]:
    """Names the folder that is written into, should the operating system refuse.

    Raises:
        RunError: it does; in place of what was raised.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:  # libraries have their own kinds, with the system's words
        refused = refusal(error)
        if refused is None:
            raise
        if not refused.is_within(folder):
            raise RunError(str(refused)) from error
        raise RunError(
            f"nothing can be written into {folder}: {refused.words}; {refused.remedy}"
        ) from error


def place_of(path: str | os.PathLike) -> str:
    """Returns what to call a path; of the memory that processes share, with its size."""
    path = os.fspath(path)
    return shared_memory() if Path(path).is_relative_to(SHARED_MEMORY) else path


def temporary_folder() -> str:
    """Returns what to call the folder of temporary files, with what moves it elsewhere."""
    return f"{tempfile.gettempdir()}, the folder of temporary files (TMPDIR names another one)"


def shared_memory() -> str:
    """Returns what to call the memory that processes share, with its size."""
    if not os.path.isdir(SHARED_MEMORY):
        return SHARED_MEMORY
    usage = shutil.disk_usage(SHARED_MEMORY)
    return f"{SHARED_MEMORY} ({in_units(usage.total)}, of which {in_units(usage.free)} are free)"


def in_units(size: float) -> str:
    """Returns a number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def look_into(folder: str | os.PathLike) -> None:
    """Checks that this user may look into a local folder, which libraries take for missing if not.

    Raises:
        UserError: that is not permitted.
    """
    try:
        os.scandir(folder).close()
    except PermissionError as error:
        raise UserError(str(refusal(error))) from error
    except OSError:
        return  # it is missing, or no folder: whoever asks for it says so


def check_writable(folder: os.PathLike) -> None:
    """Checks that a folder can be made, or written into, before anything takes time.

    A disk that is full now shows when something is written.

    Args:
        folder: a local one; it need not be there, nor need those above it.

    Raises:
        UserError: a file is in the way, the disk is mounted read-only, or this user has no right.
    """
    there = Path(os.path.abspath(folder))
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        kind = "a link to nothing" if there.is_symlink() and not there.exists() else "a file"
        raise UserError(f"{folder}: {there} is {kind}, and must be a folder: name another")
    if os.access(there, os.W_OK | os.X_OK):
        return
    read_only = os.statvfs(there).f_flag & os.ST_RDONLY
    refused = Refusal(errno.EROFS if read_only else errno.EACCES)
    raise UserError(
        f"{folder}: nothing can be written into {there}: {refused.words}; {refused.remedy}"
    )
