"""Paddle's way of keeping a network: its tables, its bfloat16, its linear layers' axes."""

import math
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from shunted_jax.convert.finding import is_tensor, of_tensor
from shunted_jax.convert.pickles import Stored
from shunted_jax.convert.pickles.records import MOST_AXES, is_size
from shunted_jax.errors import UserError

NAMES = "StructuredToParameterName@@"  # a table of the names that Paddle uses inside
_PIECES = "UnpackBigParamInfor@@"
# A static graph's names: of a kind of layer, counted, and not of the layer.
_STATIC = re.compile(r"[a-z][a-z0-9_]*_\d+\.(w|b)_\d+\w*")


def is_paddle(mapping: Mapping[Any, Any]) -> bool:
    """Whether Paddle's own tables or its batch norm's names are in it."""
    return any(
        isinstance(name, str) and (name in (NAMES, _PIECES) or name.endswith("._mean"))
        for name in mapping
    )


def is_static(names: list[str]) -> bool:
    """Whether the names are those of a static graph."""
    return sum(bool(_STATIC.fullmatch(name)) for name in names) * 2 > len(names)


def unpacked(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    """Returns the tensors without Paddle's tables: pieces joined, bfloat16 as such.

    Raises:
        UserError: the pieces do not make the tensor that the table says.
    """
    tensors = {n: of_tensor(t) for n, t in mapping.items() if n not in (NAMES, _PIECES)}
    pieces = mapping.get(_PIECES)
    for name, about in pieces.items() if isinstance(pieces, Mapping) else ():
        tensors[name] = _joined(name, about, tensors)
    return {n: _as_bfloat16(t) for n, t in tensors.items()} if is_paddle(mapping) else tensors


def with_torch_axes(tensors: dict[str, Any], marked: bool) -> tuple[dict[str, Any], bool]:
    """Returns the tensors with linear weights [out, in], and whether that changed them.

    Where the file says nothing, the biases do: their length is `out`. Square weights go as the
    others do.

    Args:
        tensors: a network's, under the published names.
        marked: whether the file has Paddle's marks, whose linear layers are [in, out] as a rule.

    Raises:
        UserError: some weights lie one way and some the other.
    """
    torch_way, paddle_way = [], []
    for name, weight in tensors.items():
        bias = tensors.get(f"{name.removesuffix('weight')}bias")
        if name.endswith(".weight") and weight.ndim == 2 and bias is not None and bias.ndim == 1:
            first, second = weight.shape
            if first != second and bias.shape[0] in weight.shape:
                (torch_way if bias.shape[0] == first else paddle_way).append(name)
    if torch_way and paddle_way:
        raise UserError(
            f"of the linear weights {len(torch_way)} are [out, in], such as {torch_way[0]}, and "
            f"{len(paddle_way)} are [in, out], such as {paddle_way[0]}: by their biases' lengths"
        )
    if torch_way or not (paddle_way or marked):
        return tensors, False
    return {n: _transposed(t) if t.ndim == 2 else t for n, t in tensors.items()}, True


def _joined(name: str, about: Any, tensors: dict[Any, Any]) -> Stored:
    """Returns the tensor that was cut into pieces, which it takes out of the others."""
    try:
        shape = tuple(about["OriginShape"])
        parts = [tensors.pop(piece) for piece in about["slices"]]
        fits = len(shape) <= MOST_AXES and all(map(is_size, shape))
        fits = fits and sum(part.size for part in parts) == math.prod(shape)
        (dtype,) = {part.dtype for part in parts}
    except (KeyError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise UserError(f"the pieces of {name} do not make the tensor that the file says")
    return Stored(
        shape,
        dtype,
        lambda: np.concatenate([np.asarray(part).ravel() for part in parts]).reshape(shape),
    )


def _as_bfloat16(tensor: Any) -> Any:
    # Paddle writes bfloat16 as uint16 and says so nowhere; no layer has weights of uint16.
    if not is_tensor(tensor) or tensor.dtype != np.uint16:
        return tensor
    return Stored(
        tuple(tensor.shape), ml_dtypes.bfloat16, lambda: np.asarray(tensor).view(ml_dtypes.bfloat16)
    )


def _transposed(tensor: Any) -> Stored:
    return Stored(tensor.shape[::-1], tensor.dtype, lambda: np.asarray(tensor).T)
