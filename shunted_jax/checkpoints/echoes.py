"""What libraries print of a save that failed, besides raising it.

Orbax raises the first failure of a save and closes its event loop. Each of the hundreds of writes
still under way then fails on its own, or finds the loop closed, and is printed with a traceback:
the one sentence that says what to do would stand in the middle of them.
"""

import logging
import sys
from pathlib import Path
from typing import Any


def hush() -> None:
    """Keeps quiet what repeats a failed save, in this process; all other errors are shown."""
    logging.getLogger("absl").addFilter(_is_not_orbax)
    logging.getLogger("asyncio").addFilter(_is_awaited)
    sys.unraisablehook = _show_unless_late


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "orbax" not in Path(record.pathname).parts


def _is_awaited(record: logging.LogRecord) -> bool:
    # Of writes that are awaited together, the first failure alone is passed on.
    return "exception was never retrieved" not in record.getMessage()


def _show_unless_late(unraisable: Any) -> None:
    # In tensorstore's threads, when a write ends that nobody awaits any more.
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)
