"""What makes two copies of a data set the same: their files' names, sizes and order."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What is kept of a split's files, to know them again wherever they lie.

    Attributes:
        files: how many there are.
        bytes: how large they are together; None where that was not asked for, as in a bucket.
        names: a hash of their paths from the data set's folder and of their labels, in order.
        sizes: a hash of their sizes, likewise; None as above.
    """

    files: int
    bytes: int | None
    names: str
    sizes: str | None


def fingerprint(
    names: Sequence[str], sizes: Sequence[int], labels: Sequence[int] = ()
) -> Fingerprint:
    """Returns the fingerprint of files in their order.

    Args:
        names: the files' paths from the data set's folder.
        sizes: in bytes; -1 where one is not known.
        labels: of the files, where the names alone do not say them.
    """
    of_names = hashlib.sha256(b"\0".join(map(os.fsencode, names)))
    of_names.update(np.asarray(labels, "<i4").tobytes())
    in_bytes = np.asarray(sizes, "<i8")
    known = not np.any(in_bytes < 0)
    return Fingerprint(
        files=len(names),
        bytes=int(in_bytes.sum()) if known else None,
        names=of_names.hexdigest()[:32],
        sizes=hashlib.sha256(in_bytes.tobytes()).hexdigest()[:32] if known else None,
    )
