"""What makes two copies of a data set the same: their files' names, sizes and order."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What is kept of a split's files, to know them again wherever they lie.

    Attributes:
        names: a hash of their paths from the data set's folder and of their labels, in order.
        sizes: a hash of their sizes, likewise; None where they are not known, as in a bucket.
        keys: uint64 [files], a hash of each path; left behind when this is pickled.
        lengths: int64 [files], each one's bytes, -1 where that is not known; likewise.
    """

    names: str
    sizes: str | None
    keys: np.ndarray = dataclasses.field(repr=False, compare=False)
    lengths: np.ndarray = dataclasses.field(repr=False, compare=False)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """Leaves out what would be 16 MB of a million files for each worker."""
        nothing = np.zeros(0)
        return Fingerprint, (self.names, self.sizes, nothing, nothing)

    def to_json(self) -> dict[str, str | None]:
        """Returns what a checkpoint keeps."""
        return {"names": self.names, "sizes": self.sizes}


def fingerprint(
    names: Sequence[str], sizes: Sequence[int], labels: Sequence[int] = ()
) -> Fingerprint:
    """Returns the fingerprint of files in their order.

    Args:
        names: the files' paths from the data set's folder.
        sizes: in bytes; -1 where one is not known.
        labels: of the files, where the names alone do not say them.
    """
    encoded = [os.fsencode(name) for name in names]
    of_names = hashlib.sha256(b"\0".join(encoded))
    of_names.update(np.asarray(labels, "<i4").tobytes())
    of_each = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in encoded)
    lengths = np.asarray(sizes, "<i8")
    known = not np.any(lengths < 0)
    return Fingerprint(
        names=of_names.hexdigest()[:32],
        sizes=hashlib.sha256(lengths.tobytes()).hexdigest()[:32] if known else None,
        keys=np.frombuffer(of_each, "<u8"),
        lengths=lengths,
    )
