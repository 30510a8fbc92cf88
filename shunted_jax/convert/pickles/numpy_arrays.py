"""numpy's arrays, types and scalars, out of the calls by which its pickles make them."""

import math
import re
from typing import Any

import ml_dtypes
import numpy as np

from shunted_jax.convert.pickles.records import (
    MOST_AXES,
    DamagedError,
    Global,
    Record,
    is_size,
)
from shunted_jax.convert.pickles.stored import Source, Span, Stored

_ARRAY = Global("numpy", "ndarray")
_PLAIN = re.compile(r"[biufc](1|2|4|8|16)")
_NO_PARTS = (None, None, None, -1, -1, 0)
# Beside numpy's own there are those that JAX brings.
_OF_ML_DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
}


class Type:
    """A `numpy.dtype` that a pickle makes: its name first, then its byte order."""

    def __init__(self, code: Any):
        self.code, self.order = code, "="

    def build(self, state: Any) -> None:
        """Takes the byte order."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise DamagedError("its pickle has a type of numpy's without a byte order")
        # Numbers have no parts, no shape and no sizes but their own.
        if isinstance(self.code, str) and _PLAIN.fullmatch(self.code) and state[2:] != _NO_PARTS:
            raise DamagedError(f"its pickle has the type {self.code} of numpy's with parts")
        self.order = state[1]

    @property
    def numpy(self) -> np.dtype | None:
        """Numpy's own; None where its elements are no numbers."""
        if isinstance(self.code, Global):
            known = self.code.module.partition(".")[0] == "ml_dtypes"
            return _OF_ML_DTYPES.get(self.code.name) if known else None
        if not isinstance(self.code, str) or not _PLAIN.fullmatch(self.code):
            return None
        try:
            return np.dtype(self.code).newbyteorder(self.order)
        except TypeError:
            return None


def stored_array(source: Source, shape: Any, of: Any, content: Any, order: str) -> Stored:
    """Returns an array whose numbers lie in the file, or in the pickle.

    Args:
        source: the file.
        shape: as a pickle has it.
        of: its `Type`.
        content: bytes, text whose characters are bytes, or where they lie in the file.
        order: "C" or "F".
    """
    if not isinstance(of, Type) or not isinstance(shape, tuple) or len(shape) > MOST_AXES:
        raise DamagedError("its pickle has an array without a type or a shape")
    if not all(map(is_size, shape)):
        raise DamagedError("its pickle has an array of a size that there is not")
    dtype = of.numpy
    if dtype is None:  # of objects, texts, dates: nothing to take numbers from
        return Stored((), object, lambda: np.asarray(None, object))
    count = math.prod(shape)
    there = content.size if isinstance(content, Span) else len(content)
    # A character that stands for a byte takes one or two of the file's.
    most = 2 if isinstance(content, Span) and content.text else 1
    if not count * dtype.itemsize <= there <= most * count * dtype.itemsize:
        raise DamagedError(
            f"its pickle has an array of {shape} and {dtype}, and {there:,} bytes of it"
        )

    def read() -> np.ndarray:
        if isinstance(content, Span):
            flat = content.read()
        else:
            source.allow(there)
            flat = content.encode("latin1") if isinstance(content, str) else content
            flat = np.frombuffer(bytearray(flat), np.uint8)  # which can be written to
        if len(flat) != count * dtype.itemsize:
            raise DamagedError(f"it has {len(flat):,} bytes of an array of {shape} and {dtype}")
        return flat.view(dtype).reshape(shape, order=order)

    return Stored(shape, dtype, read)


def fill(target: Stored, state: tuple, source: Source) -> None:
    """Gives an array that `_reconstruct` made its numbers."""
    version, shape, of, fortran, content = state if len(state) == 5 else (0, *state)
    if version not in (0, 1):
        raise DamagedError("its pickle has an array in a form that numpy never wrote")
    if isinstance(content, list):  # an array of objects
        content = b""
    if not isinstance(content, (bytes, str, Span)):
        raise DamagedError("its pickle has an array without numbers")
    target.become(stored_array(source, shape, of, content, "F" if fortran else "C"))


def _empty(call: Any) -> Any:
    kind = call.arguments[0]
    if not isinstance(kind, Global):
        raise TypeError
    if kind != _ARRAY:  # a matrix, a masked array
        return Record(kind, call.arguments[1:])
    return Stored((0,), np.int8, lambda: np.zeros(0, np.int8))


def _type(call: Any) -> Type:
    return Type(call.arguments[0])


def _scalar(call: Any) -> Stored:
    of, content = call.arguments
    if not isinstance(content, (bytes, str)):  # of an object: a text, a date
        of = Type("O")
    return stored_array(call.source, (), of, content, "C")


def _from_buffer(call: Any) -> Stored:
    content, of, shape, order = call.arguments
    return stored_array(call.source, shape, of, content, order)


MADE = {
    ("numpy", "dtype"): _type,
    **{
        (f"numpy.{core}.{module}", name): make
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", _empty),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
