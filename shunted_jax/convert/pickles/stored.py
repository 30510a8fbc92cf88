"""Where a tensor's numbers lie, and how they are read: when asked for, one tensor at a time."""

import dataclasses
import math
import mmap
import os
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shunted_jax.convert.pickles.records import DamagedError, UnreadableError

_CHUNK = 1 << 20
# Tensors may share numbers, and a few bytes may stand for many. Beyond so many times the file's
# size, and so many bytes, it is no network that asks for them.
_MOST_TIMES, _MOST_BEYOND = 4, 64 << 20


class Source:
    """A file: mapped for the pickle in it, and read for the tensors' bytes.

    What is mapped stays in memory once it was looked at, so that the numbers are read instead.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        file = self.path.open("rb", buffering=0)
        weakref.finalize(self, file.close)
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._allowed = _MOST_TIMES * self.size + _MOST_BEYOND

    def allow(self, size: int) -> None:
        """Counts bytes that are to be taken up.

        Raises:
            UnreadableError: they are far more than the file has.
        """
        self._allowed -= size
        if self._allowed < 0:
            raise UnreadableError(
                f"says that its tensors are far larger than itself: of its {self.size:,} bytes "
                f"one more tensor of {size:,} was to be made"
            )

    def read(self, offset: int, size: int) -> np.ndarray:
        """Returns bytes of the file, [size] of uint8."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise DamagedError(f"it ends before byte {offset + size:,}")
        content = np.empty(size, np.uint8)
        self._file.seek(offset)
        view, done = memoryview(content), 0
        while done < size:
            count = self._file.readinto(view[done : done + (1 << 30)])
            if not count:
                raise DamagedError(f"it ends before byte {offset + size:,}")
            done += count
        return content


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the file that a pickle has in it: too many to be taken up before they are needed.

    `text` says that they are UTF-8 for characters that stand for a byte each, as protocols 0 to 2
    write bytes.
    """

    source: Source
    offset: int
    size: int
    text: bool

    def read(self) -> np.ndarray:
        """Returns the bytes, [n] of uint8."""
        self.source.allow(self.size)
        content = self.source.read(self.offset, self.size)
        if not self.text:
            return content
        try:
            text = content.tobytes().decode().encode("latin1")
        except UnicodeError:
            raise DamagedError(f"no bytes are in the text at byte {self.offset:,}") from None
        return np.frombuffer(bytearray(text), np.uint8)


class Storage:
    """A run of bytes in a file that tensors are views of.

    Attributes:
        source: the file.
        size: in bytes.
        name: for messages.
        offset: where it begins; None until `place` says so.
    """

    def __init__(self, source: Source, size: int, name: str, checksum: int | None = None):
        self.source, self.size, self.name = source, size, name
        self.offset: int | None = None
        self._checksum = checksum

    def place(self, offset: int) -> "Storage":
        """Says where it begins, and returns it."""
        if self.size < 0 or offset + self.size > self.source.size:
            raise DamagedError(f"{self.name} reaches beyond the file's end")
        self.offset = offset
        return self

    def read(self, first: int, last: int) -> np.ndarray:
        """Returns the bytes from `first` up to `last`, after comparing the checksum of all."""
        self.source.allow(last - first)
        if (first, last) == (0, self.size):
            content = self.source.read(self.offset, self.size)
            self._compare(zlib.crc32(content) if self._checksum is not None else 0)
            return content
        if self._checksum is not None:
            found = 0
            for at in range(0, self.size, _CHUNK):
                size = min(_CHUNK, self.size - at)
                found = zlib.crc32(self.source.read(self.offset + at, size), found)
            self._compare(found)
        return self.source.read(self.offset + first, last - first)

    def _compare(self, found: int) -> None:
        if self._checksum not in (None, found):
            raise DamagedError(f"the checksum of {self.name} is wrong")
        self._checksum = None  # once is enough


class Stored:
    """A tensor whose shape and type are known, and whose numbers `numpy.asarray` reads.

    Attributes:
        shape: as numpy has it.
        dtype: numpy's, or one of ml_dtypes.
    """

    __slots__ = ("_read", "dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any, read: Callable[[], np.ndarray]):
        self.shape, self.dtype, self._read = shape, np.dtype(dtype), read

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def become(self, other: "Stored") -> None:
        """Takes on another one's numbers: pickles make an array first and fill it then."""
        self.shape, self.dtype, self._read = other.shape, other.dtype, other._read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._read()
        return array if dtype is None else array.astype(dtype, copy=False)
