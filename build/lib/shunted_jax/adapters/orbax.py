"""Orbax: the names of its files, and what is printed of a save that failed besides raising it.

Orbax raises the first failure of a save and closes its event loop. Each of the hundreds of writes
still under way then fails on its own, or finds the loop closed, and is printed with a traceback.
The one sentence that says what to do would stand in the middle of them.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A bucket renames nothing: what is being saved lies there under its name. Orbax adds this file once
# all of it is there.
COMMITTED = "commit_success.txt"

# The file in the folder of an item that was saved as JSON.
JSON_FILE = "metadata"


def hush_failed_saves() -> None:
    """Keeps quiet what repeats a failed save, from now to the end of this process.

    This adds a filter to the loggers `absl` and `asyncio` and one to `warnings`, and replaces
    `sys.unraisablehook`. It hides Orbax's error logs, asyncio's tasks whose exception nobody asked
    for, Orbax's writes that were never begun, and what finds an event loop closed in a thread.
    Nothing says whose tasks these were: a program that has some of its own should not call this.
    Calling it again changes nothing.
    """
    logging.getLogger("absl").addFilter(_is_not_orbax)
    logging.getLogger("asyncio").addFilter(_is_awaited)
    unbegun = r"coroutine 'async_serialize\S* was never awaited"
    warnings.filterwarnings("ignore", unbegun, RuntimeWarning)
    if not isinstance(sys.unraisablehook, _ShowUnlessLate):
        sys.unraisablehook = _ShowUnlessLate(sys.unraisablehook)


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "orbax" not in Path(record.pathname).parts


def _is_awaited(record: logging.LogRecord) -> bool:
    # Of writes that are awaited together, the first failure alone is passed on.
    return "exception was never retrieved" not in record.getMessage()


class _ShowUnlessLate:
    """Hides what a write says that ends when nobody awaits it any more; the rest is passed on."""

    def __init__(self, show: Callable[[Any], object]):
        self._show = show

    def __call__(self, unraisable: Any) -> None:
        # tensorstore's threads give their results to the loop that Orbax has closed.
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            self._show(unraisable)
