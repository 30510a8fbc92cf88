"""Why a run could not be saved: a full disk or a bucket out of reach, and not the program."""

import errno
import os
import tempfile

from etils import epath

from shunted_jax.adapters.buckets import is_of_bucket
from shunted_jax.adapters.tensorstore import errno_in
from shunted_jax.checkpoints.folders import whole_steps
from shunted_jax.errors import causes, in_a_line
from shunted_jax.storage import in_bucket


def why_not_written(error: BaseException, checkpoints: epath.Path) -> str | None:
    """Returns the sentence for a run that could not be saved; None if the program is to blame.

    Args:
        error: what was raised; its causes are looked at, too. Those that are hidden count: etils's
            paths hide what a file system said.
        checkpoints: the folder of a run's checkpoints.
    """
    where, remedy = checkpoints.parent, "Make room and"
    reason = _disk_problem(error)
    if reason is not None and in_bucket(where):
        where = tempfile.gettempdir()  # where this host prepares what goes there
    elif in_bucket(where):
        remedy, reason = "Once it can be,", _bucket_problem(error)
    if reason is None:
        return None
    return (
        f"nothing can be written into {where}: {reason}; {_last_saved(checkpoints)}. {remedy} "
        "start again with the same --workdir"
    )


def _last_saved(checkpoints: epath.Path) -> str:
    # From the disk: Orbax no longer lists the step that it would have removed after this save.
    try:
        kept = whole_steps(checkpoints)
    except Exception:  # the bucket, again
        return "what is saved there stays"
    return f"step {kept[-1]} is the last one saved" if kept else "none is saved yet"


def _disk_problem(error: BaseException) -> str | None:
    """Returns what the file system complains of; None if it does not."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of writing alone
    for one in causes(error, hidden=True):
        if isinstance(one, OSError) and one.errno in numbers:
            return os.strerror(one.errno)
        if (number := errno_in(str(one), numbers)) is not None:
            return os.strerror(number)
    return None


def _bucket_problem(error: BaseException) -> str | None:
    """Returns what a bucket complains of, or what stands in between; None if it does not."""
    problems = (in_a_line(one) for one in causes(error, hidden=True) if is_of_bucket(one))
    return next(problems, None)
