"""From a path to the bytes of an image file: the one door for files that cannot be read.

A file that is itself at fault, such as a link to nothing or a folder called `x.jpg`, is a bad
image like one that cannot be decoded. Where the machine is at fault, as with a disk that was
unmounted, the run ends: skipped one by one, its images would be an epoch of nothing.
"""

import errno
import os
import stat

from etils import epath

from shunted_jax.data.bad_images import BadImageError
from shunted_jax.errors import RunError
from shunted_jax.storage import in_bucket

_GONE = "there is no such file any more"

# What says something of one file, and what to call it; any other error is the machine's.
_OF_ONE_FILE = {
    errno.ENOENT: _GONE,
    errno.ENOTDIR: _GONE,
    errno.EACCES: "it may not be read: permission denied",
    errno.EPERM: "it may not be read: permission denied",
    errno.ELOOP: "it is a link to itself",
    errno.ENAMETOOLONG: "it is a link to a name that is too long",
    errno.EISDIR: "it is a folder",
    errno.ENXIO: "it is no file, but a socket or a device",
    errno.ENODEV: "it is no file, but a device that is not there",
}


def read_image_file(path: epath.Path) -> bytes:
    """Returns the bytes of a file, local or in a bucket.

    Raises:
        BadImageError: there is nothing to be read at `path`: no file, none that may be read, or
            what would be waited for without end, such as a named pipe.
        RunError: the folder is gone, or the machine cannot read at all.
    """
    if in_bucket(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise BadImageError(_GONE) from None
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            return file.read()
    except OSError as error:
        _raise_for_machine(error, path)
        to_nothing = error.errno == errno.ENOENT and os.path.islink(path)
        reason = "it is a link to nothing" if to_nothing else _OF_ONE_FILE[error.errno]
        raise BadImageError(reason) from None


def _open_at_once(path: str, flags: int) -> int:
    # A named pipe that nobody writes into would otherwise be waited for.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # which Python itself refuses to read
        return descriptor
    os.close(descriptor)
    raise BadImageError("it is no file, but a named pipe or a device")


def _raise_for_machine(error: OSError, path: epath.Path) -> None:
    if error.errno not in _OF_ONE_FILE:
        raise RunError(
            f"{path} cannot be read: {os.strerror(error.errno) if error.errno else error}. That "
            "says nothing of the image, and the run cannot go on: see that its disk is there, and "
            "start it again"
        ) from error
    try:
        os.stat(path.parent)
    except OSError as reason:
        if reason.errno not in (errno.EACCES, errno.EPERM):
            raise RunError(
                f"{path.parent}, which was there, cannot be read any more: "
                f"{os.strerror(reason.errno)}. See that its disk is mounted, and start the run "
                "again"
            ) from reason
