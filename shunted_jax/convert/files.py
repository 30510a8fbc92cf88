"""Files of PyTorch, Paddle, numpy and safetensors, read without running what is in them.

No torch and no paddle: `pickles/` reads pickles as data, and safetensors hold no program. Tensors
stay in the file until `numpy.asarray` asks for one.
"""

import contextlib
import functools
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from shunted_jax.convert.kinds import check_archive, kind_of
from shunted_jax.convert.names import shown
from shunted_jax.convert.pickles import DamagedError, Stored, UnreadableError
from shunted_jax.convert.pickles.stored import Source
from shunted_jax.convert.pickles.streams import read_stream
from shunted_jax.convert.pickles.torch_zip import read_archive
from shunted_jax.errors import UserError, in_a_line
from shunted_jax.names import readable

_MOST_SHOWN = 1000  # characters of what is wrong
_MOST_TENSORS = 100_000  # of a file; the largest networks that there are have a few thousand

_OF_SAFETENSORS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "BOOL": np.bool_,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "C64": np.complex64,
}


class Loaded(NamedTuple):
    """What a file holds: containers, numbers and texts, `Stored` tensors, inert records.

    Attributes:
        value: as the file nests it.
        kind: what the file is, in words.
    """

    value: Any
    kind: str


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Says of what is read inside, file and tensors, what is wrong with it.

    Raises:
        UserError: the file is damaged, or is not read for a reason that the message says.
    """
    try:
        yield
    except DamagedError as error:
        raise UserError(
            f"{path} is damaged or not a checkpoint; download it again ({_shown(error)})"
        ) from error
    except UnreadableError as error:
        raise UserError(f"{path} {_shown(error)}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _shown(error: ValueError) -> str:
    # There may be a stranger's names in it.
    return readable(str(error)[:_MOST_SHOWN])


def read_file(path: str | os.PathLike) -> Loaded:
    """Reads what a file holds, its tensors' numbers still left in it.

    Args:
        path: of the file; to be called within `reading`.

    Raises:
        UserError: the file is not there or of another kind.
        DamagedError: it is not what a program wrote.
        UnreadableError: it asks to run code, or holds what is not read.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "safetensors":
        return Loaded(_read_safetensors(path), "a safetensors file")
    source = Source(path)
    if kind == "pickle":
        return Loaded(*read_stream(source))
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # of damaged ones it raises nearly anything
        raise DamagedError(str(error) or type(error).__name__) from error
    with archive:
        check_archive(path, archive)
        return Loaded(*read_archive(source, archive))


def _read_safetensors(path: Path) -> dict[str, Stored]:
    try:
        import safetensors
    except ImportError:
        raise UserError(".safetensors files need safetensors: pip install safetensors") from None
    try:
        file = safetensors.safe_open(path, framework="np")
        names, tensors = file.keys(), {}
        if len(names) > _MOST_TENSORS:
            raise UnreadableError(
                f"holds {len(names):,} tensors, and {_MOST_TENSORS:,} are the most read"
            )
        for name in names:
            about = file.get_slice(name)
            dtype = _OF_SAFETENSORS.get(about.get_dtype(), object)
            read = functools.partial(_read_tensor, file, name)
            tensors[shown(name)] = Stored(tuple(about.get_shape()), dtype, read)
    except UnreadableError:
        raise
    except Exception as error:
        raise DamagedError(in_a_line(error)) from error
    return tensors


def _read_tensor(file: Any, name: str) -> np.ndarray:
    try:
        return file.get_tensor(name)
    except Exception as error:
        raise DamagedError(f"{shown(name)}: {in_a_line(error)}") from error
