"""Image files with their labels, split by split, in their order."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Iterable

from etils import epath

# Label, path from the data set's folder, size in bytes: -1 where it is not known.
Row = tuple[int, str, int]


@dataclasses.dataclass
class Listing:
    """The image files of a data set.

    Attributes:
        folder: what the files' paths start from.
        class_names: what each label stands for.
        splits: the rows of each split that was asked for, in the order that a hash of the paths
            gives, as tensorflow-datasets orders what it prepares: a part such as "train[99%:]"
            then holds every class, and not the last of them.
        remarks: what a person wants to know besides, such as what was left out.
    """

    folder: epath.Path
    class_names: tuple[str, ...]
    splits: dict[str, list[Row]]
    remarks: tuple[str, ...] = ()


def in_order_of_hash(rows: Iterable[Row]) -> list[Row]:
    """Returns the rows in the order that a hash of their paths gives."""
    return sorted(rows, key=lambda row: hashlib.sha256(os.fsencode(row[1])).digest())


def as_seen(name: str) -> str:
    """Returns the one form of a name that looks so: macOS writes an accent behind its letter."""
    return unicodedata.normalize("NFC", name)
