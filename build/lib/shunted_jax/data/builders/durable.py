"""Files that are whole under their own name or not there, even after a power cut."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Gives a file its name once it is whole and on the disk.

    Args:
        path: the file.
        partial: where to write it first; beside it if None.

    Yields:
        `partial`, to be written.
    """
    partial = partial or path.with_name(f"{path.name}.partial")
    yield partial
    to_disk(partial)
    os.replace(partial, path)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Returns when a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
