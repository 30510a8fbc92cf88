"""A folder tree of image files, SPLIT/CLASS/FILE: what most people have."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from shunted_jax.errors import UserError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class FolderExamples(Sequence):
    """Random access to {"image": bytes, "label": int, "file_name": str}.

    Classes are numbered in the order of their names, those of the folder `train` if there is one,
    so that every split of a tree gives them the same numbers. Hidden files and those that are no
    images by their extension are left out. The rest are in an order that a hash of their names
    gives, as tensorflow-datasets orders what it prepares: a part such as "train[99%:]" then holds
    every class, and not the last of them.

    Attributes:
        class_names: what each label stands for.
    """

    def __init__(self, folder: os.PathLike, split: str):
        """Lists the files of `split`, which may be a part such as "train[:99%]".

        Raises:
            UserError: the folder has no such split, the split no images or a class that `train`
                does not have, or the expression is not understood.
        """
        self._folder = epath.Path(folder)
        listings = _Listings(self._folder)
        try:
            parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(listings)
        except (AssertionError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self._folder} cannot give the split {split!r}: {error}") from error
        self.class_names = listings.class_names
        rows = [row for p in parts for row in listings[p.splitname].rows[p.from_ : p.to]]
        self._labels = np.array([label for label, _ in rows], np.int32)
        # One string and one array: a million small objects would be slow to hand to the workers.
        files = [os.fsencode(file) for _, file in rows]
        self._ends = np.cumsum([len(file) for file in files], dtype=np.int64)
        self._files = b"".join(files)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        start = self._ends[index - 1] if index else 0
        file_name = os.fsdecode(self._files[start : self._ends[index]])
        return {
            "image": (self._folder / file_name).read_bytes(),
            "label": int(self._labels[index]),
            "file_name": file_name,
        }


class _Listing(tfds.core.SplitInfo):
    """A split's (label, file) pairs, in a form from which tensorflow-datasets takes parts."""

    def __init__(self, name: str, rows: list[tuple[int, str]]):
        super().__init__(name=name, shard_lengths=[len(rows)], num_bytes=0)
        object.__setattr__(self, "rows", rows)


class _Listings(Mapping):
    """The splits of a tree by name, each listed when it is first asked for."""

    def __init__(self, folder: epath.Path):
        self._folder = folder
        self._splits = _folders_in(folder)
        self._listed = {}
        self.class_names = ()

    def __iter__(self):
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __contains__(self, split: object) -> bool:
        return split in self._splits

    def __getitem__(self, split: str) -> _Listing:
        if split not in self._listed:
            reference = "train" if "train" in self._splits else split
            self.class_names = self.class_names or tuple(_folders_in(self._folder / reference))
            rows = sorted(self._rows(split, reference), key=_hash_of_name)
            self._listed[split] = _Listing(split, rows)
        return self._listed[split]

    def _rows(self, split: str, reference: str):
        label_of = {name: label for label, name in enumerate(self.class_names)}
        count = 0
        for name in _folders_in(self._folder / split):
            if name not in label_of:
                raise UserError(
                    f"{self._folder / split} has the class {name!r}, which "
                    f"{self._folder / reference} has not: every class needs a folder there"
                )
            for file in (path.name for path in (self._folder / split / name).iterdir()):
                if file.lower().endswith(EXTENSIONS) and not file.startswith("."):
                    count += 1
                    yield label_of[name], f"{split}/{name}/{file}"
        if not count:
            raise UserError(
                f"{self._folder / split} holds no images: they belong into one folder a class, "
                f"with one of the extensions {', '.join(EXTENSIONS)}"
            )


def _hash_of_name(row: tuple[int, str]) -> bytes:
    return hashlib.sha256(os.fsencode(row[1])).digest()


def _folders_in(folder: epath.Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()
    )
