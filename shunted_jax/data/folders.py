"""Image files below a folder, by their numbers: what most people have."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from shunted_jax.data.reading import read_image_file
from shunted_jax.storage import as_path


class FolderExamples(Sequence):
    """Random access to {"image": bytes, "label": int, "file_name": str}.

    It can be handed to workers: a million files are one string and two arrays.
    """

    def __init__(self, folder: os.PathLike, files: Sequence[str], labels: Sequence[int]):
        """Takes the files' paths from `folder`, and as many labels."""
        self._folder = as_path(folder)
        self._labels = np.array(labels, np.int32)
        # One string and one array: a million small objects would be slow to hand to the workers.
        encoded = [os.fsencode(file) for file in files]
        self._ends = np.cumsum([len(file) for file in encoded], dtype=np.int64)
        self._files = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads example `index`; raises `BadImageError` and `RunError` as `read_image_file`."""
        file_name = self.file_name(index)
        return {
            "image": read_image_file(self._folder / file_name),
            "label": int(self._labels[index]),
            "file_name": file_name,
        }

    def file_name(self, index: int) -> str:
        """Returns where example `index` is below the folder, without reading it."""
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._files[start : self._ends[index]])
