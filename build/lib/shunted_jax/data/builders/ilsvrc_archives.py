"""Where each image lies in ILSVRC2012's archives, found by reading the headers alone.

The archives are not compressed, so that an image can be read by itself once its place is known:

    ILSVRC2012_img_train.tar    n01440764.tar, ...: an archive a class, of n01440764_10026.JPEG, ...
    ILSVRC2012_img_val.tar      ILSVRC2012_val_00000001.JPEG, ...
"""

import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from shunted_jax.errors import UserError

# 54 bytes an image, of which there are 1.3 million.
ENTRY = np.dtype([("offset", "<i8"), ("size", "<i8"), ("label", "<i2"), ("name", "S36")])

_TRAIN_NAME = re.compile(r"(n\d{8})_\d{1,16}\.JPEG")
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def index_train(
    path: Path, synsets: Sequence[str], found: Callable[[int], None] = lambda count: None
) -> np.ndarray:
    """Finds the images of the archive of the training set.

    Args:
        path: the archive.
        synsets: the classes' WordNet numbers, in the order of the labels.
        found: called after each class with the number of its images.

    Returns:
        [images] of `ENTRY`, in the order of the archive.

    Raises:
        UserError: it is damaged, or laid out otherwise.
    """
    labels = {synset: label for label, synset in enumerate(synsets)}
    classes = []
    with open(path, "rb") as file:
        for class_name, class_start, class_size in _members(file, path, 0):
            synset = class_name.removesuffix(".tar")
            if class_name != f"{synset}.tar" or synset not in labels:
                raise _unexpected(path, class_name, "one archive for each of the 1,000 classes")
            class_end = class_start + class_size
            entries = []
            for name, offset, size in _members(file, path, class_start):
                match = _TRAIN_NAME.fullmatch(name)
                if not match or match[1] != synset or offset + size > class_end:
                    raise _unexpected(path, f"{class_name}/{name}", f"{synset}_<number>.JPEG there")
                entries.append((offset, size, labels[synset], name))
            classes.append(np.array(entries, ENTRY))
            found(len(entries))
    return np.concatenate(classes) if classes else np.empty(0, ENTRY)


def index_validation(
    path: Path, labels: Sequence[int], found: Callable[[int], None] = lambda count: None
) -> np.ndarray:
    """Finds the images of the archive of the validation set.

    Args:
        path: the archive.
        labels: of all 50,000 images. An image's is found by the number in its name, so that an
            archive of some images has their labels too.
        found: called after each image with 1.

    Returns:
        [images] of `ENTRY`, in the order of the archive.

    Raises:
        UserError: it is damaged, or laid out otherwise.
    """
    entries = []
    with open(path, "rb") as file:
        for name, offset, size in _members(file, path, 0):
            match = _VALIDATION_NAME.fullmatch(name)
            if not match or not 1 <= int(match[1]) <= len(labels):
                last = f"ILSVRC2012_val_{len(labels):08d}.JPEG"
                raise _unexpected(path, name, f"ILSVRC2012_val_00000001.JPEG to {last}")
            entries.append((offset, size, labels[int(match[1]) - 1], name))
            found(1)
    return np.array(entries, ENTRY)


def read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Returns the bytes at a place; threads may share the file."""
    content = os.pread(file.fileno(), size, offset)
    if len(content) != size:
        raise UserError(
            f"{file.name} ends at byte {offset + len(content):,}, within an image that is to end "
            f"at {offset + size:,}: it was changed meanwhile; start again"
        )
    return content


def _members(file: BinaryIO, path: Path, start: int) -> Iterator[tuple[str, int, int]]:
    """Yields name, offset and size of the files in the archive that starts at `start`."""
    file.seek(start)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            # The caller may move the file's position meanwhile; tarfile goes by its own.
            for member in archive:
                if not member.isdir():
                    yield os.path.normpath(member.name), member.offset_data, member.size
            end = archive.offset
    except tarfile.TarError as error:
        raise _damaged(path, str(error)) from error
    # What tarfile cannot read it takes for the end; the end is a block of zeros.
    if os.pread(file.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
        size = os.fstat(file.fileno()).st_size
        raise _damaged(path, f"there is no header at byte {end:,} of {size:,}")


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged, incomplete or no tar archive ({reason}): download it again"
    )


def _unexpected(path: Path, found: str, expected: str) -> UserError:
    return UserError(
        f"{path} holds {found!r}, and ILSVRC2012's own archive has {expected}: take the archive as "
        "image-net.org gives it"
    )
