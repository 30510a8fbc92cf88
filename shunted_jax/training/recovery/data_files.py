"""Whether a run goes on with the files that it began with, wherever they lie now.

A checkpoint keeps a fingerprint of the training files. What differs is told by a list of their
hashes and sizes, which lies beside the checkpoints: 16 bytes a file.
"""

import dataclasses
import io
import zipfile
from typing import Any

import jax
import numpy as np
from etils import epath

from shunted_jax.data.fingerprint import Fingerprint
from shunted_jax.data.sources import Source
from shunted_jax.storage import replace_bytes

LIST = "train_files.npz"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What became of the files.

    Attributes:
        names_differ: whether others are there, or they have another order or other labels.
        sizes_differ: whether files have other sizes, in bytes.
        known: whether the run has a fingerprint to compare with: older ones have none.
        words: what differs.
    """

    names_differ: bool
    sizes_differ: bool
    known: bool
    words: str = ""

    @property
    def same(self) -> bool:
        """Whether the files are known to be the same."""
        return self.known and not self.names_differ and not self.sizes_differ


def write_list(source: Source, workdir: epath.Path) -> None:
    """Writes the hashes and sizes of the training files into a run's folder, on the first host."""
    if source.files is None or jax.process_index():
        return
    packed = io.BytesIO()
    np.savez(packed, keys=source.files.keys, lengths=source.files.lengths)
    replace_bytes(workdir / LIST, packed.getvalue())


def compare(saved: dict[str, Any] | None, source: Source, workdir: epath.Path) -> Comparison:
    """Compares the training files with those that a run began with.

    Args:
        saved: the fingerprint as a checkpoint keeps it; None of an older one.
        source: what the run would go on with.
        workdir: the run's folder.
    """
    now = source.files
    if saved is None or now is None:
        return Comparison(False, False, known=False)
    names_differ = saved["names"] != now.names
    sizes_differ = None not in (saved["sizes"], now.sizes) and saved["sizes"] != now.sizes
    words = _differences(now, workdir) if names_differ or sizes_differ else ""
    return Comparison(names_differ, sizes_differ, known=True, words=words)


def _differences(now: Fingerprint, workdir: epath.Path) -> str:
    try:
        with np.load(io.BytesIO((workdir / LIST).read_bytes())) as before:
            keys, lengths = before["keys"], before["lengths"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return "they are not those that it began with"
    _, old, new = np.intersect1d(keys, now.keys, return_indices=True)
    resized = np.sum(lengths[old] != now.lengths[new])
    counts = {
        "are new": len(now.keys) - len(new),
        "are gone": len(keys) - len(old),
        "have another size": int(resized),
    }
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"of {len(keys):,} files, {told or 'some have another place or label'}"
