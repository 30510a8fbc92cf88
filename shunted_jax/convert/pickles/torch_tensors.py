"""PyTorch's tensors, out of the calls by which its pickles make them from storages."""

import dataclasses
import math
from typing import Any

import ml_dtypes
import numpy as np

from shunted_jax.convert.pickles.records import (
    MOST_AXES,
    DamagedError,
    Global,
    Record,
    in_short,
    is_size,
)
from shunted_jax.convert.pickles.stored import Storage, Stored

_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    "UntypedStorage": np.uint8,
}
# Those for which there are no storages of their own.
_TYPES = {
    name: np.dtype(getattr(ml_dtypes if name.startswith("float8") else np, name))
    for name in (
        *("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e4m3fnuz"),
        *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
}
_PLAIN_CLASSES = frozenset(
    {
        Global("torch", "Tensor"),
        Global("torch._tensor", "Tensor"),
        Global("torch.nn.parameter", "Parameter"),
        Global("torch.nn.parameter", "Buffer"),
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Typed:
    """A storage and the type of its elements."""

    storage: Storage
    dtype: np.dtype


def type_of_storage(named: Any) -> np.dtype | None:
    """Returns the type of a storage's elements by its class's name; None for unknown ones."""
    if not isinstance(named, Global) or named.module.partition(".")[0] != "torch":
        return None
    dtype = _STORAGES.get(named.name)
    return None if dtype is None else np.dtype(dtype)


def _strided(typed: Any, dtype: Any, offset: Any, shape: Any, strides: Any, marks=None):
    """Returns a tensor that is a view of a storage; sizes and strides count elements."""
    marks = marks or {}
    if not (isinstance(typed, Typed) and isinstance(shape, tuple) and isinstance(marks, dict)):
        raise TypeError
    if marks and dtype.kind not in "fc":
        raise TypeError
    fits = len(shape) == len(strides) and len(shape) <= MOST_AXES
    if not fits or not all(map(is_size, (offset, *shape, *strides))):
        raise DamagedError(
            f"its pickle has a tensor of shape {in_short(shape)} and strides {in_short(strides)}"
        )
    storage, item = typed.storage, dtype.itemsize
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
    if 0 in shape:
        return Stored(shape, dtype, lambda: np.zeros(shape, dtype))
    if last * item > storage.size:
        raise DamagedError(
            f"a tensor of shape {in_short(shape)} reaches beyond its storage, {storage.name}"
        )

    def read() -> np.ndarray:
        beyond = math.prod(shape) * item - (last - offset) * item
        storage.source.allow(max(beyond, 0))
        flat = storage.read(offset * item, last * item).view(dtype)
        steps = tuple(stride * item for stride in strides)
        view = np.ndarray(shape, dtype, flat, strides=steps)
        array = np.array(view, order="C", copy=None)
        # Views that are conjugated or negated are so by a mark alone.
        array = array.conj() if marks.get("conj") else array
        return -array if marks.get("neg") else array

    return Stored(shape, dtype, read)


def _tensor(call: Any) -> Any:
    typed, offset, shape, strides, *rest = call.arguments
    if isinstance(typed, Record):  # of a storage that is not read: a quantised one's
        return typed
    marks = (rest[2:3] or [None])[0] or {}
    return _strided(typed, typed.dtype, offset, shape, strides, marks)


def _tensor_of_type(call: Any) -> Any:
    typed, offset, shape, strides, _, _, of, *marks = call.arguments
    dtype = _TYPES.get(of.name) if isinstance(of, Global) and of.module == "torch" else None
    if dtype is None or any(marks):
        return Record(of, call.arguments) if isinstance(of, Global) else Record(_V3, ())
    return _strided(typed, dtype, offset, shape, strides)


def _parameter(call: Any) -> Any:
    tensor = call.arguments[0]
    if not isinstance(tensor, (Stored, Record)):
        raise TypeError
    return tensor


def _from_type(call: Any) -> Any:
    rebuild, kind, arguments, *_ = call.arguments
    make = MADE.get((rebuild.module, rebuild.name))
    if not isinstance(kind, Global):  # nor anything that would have to be hashed
        return Record(kind if isinstance(kind, Record) else _V3, ())
    if kind not in _PLAIN_CLASSES or make in (None, _from_type):
        return Record(kind, arguments)
    return make(call._replace(arguments=arguments))


_V3 = Global("torch._utils", "_rebuild_tensor_v3")
MADE = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
}
