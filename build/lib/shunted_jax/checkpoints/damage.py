"""A checkpoint that cannot be read: is it damaged, or is something in the way that may pass?

What is damaged may be set aside. A failing disk, a network or a lack of memory says nothing about
the checkpoint: to take that for damage would give up the newest one, or the best.
"""

import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

from etils import epath
from jax.errors import JaxRuntimeError

from shunted_jax.errors import RunError, UserError, causes, in_a_line

logger = logging.getLogger(__name__)

# How long to wait before each further try, in seconds.
WAITS = (0.5, 2.0, 5.0)

# What came of reading, from best to worst.
FINE, DAMAGED, HINDERED = range(3)

_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
# What decoding raises of bytes that are not what was written, tensorstore's errors among it.
_OF_CONTENT = (ValueError, LookupError, TypeError, AttributeError, EOFError)
# tensorstore puts the kind of its errors first. These say nothing of what is in the files.
_HINDERING = re.compile(
    "(ABORTED|CANCELLED|DEADLINE_EXCEEDED|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAUTHENTICATED"
    "|UNAVAILABLE|UNKNOWN): "
)

Result = TypeVar("Result")


class DamagedError(ValueError):
    """A checkpoint's files are not those that were saved."""


def read_patiently(
    read: Callable[[], Result],
    folder: epath.Path,
    agree: Callable[[int], int] = lambda verdict: verdict,
) -> Result:
    """Returns what `read` returns, and tries again after what may pass.

    Args:
        read: reads something of a checkpoint; its `UserError` is passed on.
        folder: the checkpoint's.
        agree: takes `FINE`, `DAMAGED` or `HINDERED` as this host found it, and returns the worst
            that any host found; where there is one host, that is the same.

    Raises:
        DamagedError: what was read is damaged.
        RunError: something was in the way each time.
    """
    waits = iter(WAITS)
    while True:
        found, error, verdict = None, None, FINE
        try:
            found = read()
        except UserError:
            raise
        except Exception as caught:  # each kind of damage raises another one
            error, verdict = caught, DAMAGED if is_damage(caught, folder) else HINDERED
        verdict = agree(verdict)
        if verdict == FINE:
            return found
        reason = "another host cannot read it"
        if error:
            *_, first = causes(error, hidden=False)
            reason = in_a_line(first)
        if verdict == DAMAGED:
            raise DamagedError(reason) from error
        if (wait := next(waits, None)) is None:
            raise RunError(
                f"{folder} cannot be read: {reason}. It need not be damaged, and all stays as it "
                "is: start again once this is mended"
            ) from error
        logger.warning("%s cannot be read: %s; next try in %g s", folder, reason, wait)
        time.sleep(wait)


def is_damage(error: BaseException, folder: epath.Path) -> bool:
    """Returns whether a checkpoint is damaged, as opposed to something being in the way.

    It is if its files can be read to their ends, and what is in them, or missing, is to blame.

    Args:
        error: what reading it raised, with its causes.
        folder: the checkpoint's.
    """
    verdicts = [_verdict(one) for one in causes(error, hidden=False)]
    return HINDERED not in verdicts and DAMAGED in verdicts and _can_be_read(folder)


def _verdict(error: BaseException) -> int | None:
    """Returns what one error says of a checkpoint; None if nothing."""
    if isinstance(error, (MemoryError, JaxRuntimeError)):
        return HINDERED
    if isinstance(error, OSError):
        return DAMAGED if isinstance(error, _MISSING) else HINDERED
    if isinstance(error, _OF_CONTENT):
        return HINDERED if _HINDERING.match(str(error)) else DAMAGED
    return None


def _can_be_read(folder: epath.Path) -> bool:
    """Returns whether the folder is there and each of its files can be read to its end."""
    try:
        for path in folder.iterdir():
            if path.is_dir():
                if not _can_be_read(path):
                    return False
                continue
            with path.open("rb") as file:
                while file.read(2**20):
                    pass
    except Exception:  # of disks, sockets, HTTP: whatever stands in between
        return False
    return True
