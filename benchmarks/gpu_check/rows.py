"""Figures on their way out of a script: a line of JSON each, as soon as it is known."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

_out = None


def begin() -> None:
    """Keeps standard output for rows alone; what libraries print goes to standard error."""
    global _out
    _out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def row(**figures: Any) -> None:
    """Writes a row."""
    print(json.dumps(figures), file=_out, flush=True)


@contextlib.contextmanager
def attempt(**names: Any) -> Iterator[dict[str, Any]]:
    """Writes the row that its block fills in, or why the block failed.

    Args:
        **names: what the row is about.
    """
    figures, start = {}, time.perf_counter()
    try:
        yield figures
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        figures = {"failed": f"{type(error).__name__}: {text[0][:300]}"}
    row(**names, **figures, seconds=round(time.perf_counter() - start, 1))
