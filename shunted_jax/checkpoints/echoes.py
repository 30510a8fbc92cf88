"""What libraries print of a save that failed, besides raising it.

Orbax raises the first failure of a save and closes its event loop. Each of the hundreds of writes
still under way then fails on its own, or finds the loop closed, and is printed with a traceback:
the one sentence that says what to do would stand in the middle of them.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def hush() -> None:
    """Keeps quiet what repeats a failed save, for the rest of this process.

    It is Orbax's error logs, exceptions of asyncio's tasks that nobody awaited, and what finds an
    event loop closed in a thread. Nothing says whose tasks these were: a program that has some of
    its own should not call this.
    """
    logging.getLogger("absl").addFilter(_is_not_orbax)
    logging.getLogger("asyncio").addFilter(_is_awaited)
    if not isinstance(sys.unraisablehook, _ShowUnlessLate):
        sys.unraisablehook = _ShowUnlessLate(sys.unraisablehook)


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "orbax" not in Path(record.pathname).parts


def _is_awaited(record: logging.LogRecord) -> bool:
    # Of writes that are awaited together, the first failure alone is passed on.
    return "exception was never retrieved" not in record.getMessage()


class _ShowUnlessLate:
    """Passes on to the hook before what is not of a write that ends when nobody awaits any more."""

    def __init__(self, show: Callable[[Any], object]):
        self._show = show

    def __call__(self, unraisable: Any) -> None:
        # In tensorstore's threads.
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            self._show(unraisable)
