"""Where a checkpoint comes from: the program's revision, for its metadata."""

import functools
import subprocess
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parents[2]


@functools.cache
def git_revision() -> dict[str, Any] | None:
    """Returns {"commit", "dirty"} of the checkout that this package runs from; None if installed.

    `dirty` says that files git knows differ from that commit.
    """
    root = _git("rev-parse", "--show-toplevel")
    # An installed package may lie in a checkout too, that of whoever installed it.
    if not root or Path(root).resolve() != _PACKAGE.parent.resolve():
        return None
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)} if commit else None


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(_PACKAGE), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
