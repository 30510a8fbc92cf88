"""The calls that are made, each from plain data to plain data; all others become records.

`torch_tensors.py` and `numpy_arrays.py` have those of their packages.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from shunted_jax.convert.pickles import numpy_arrays, torch_tensors
from shunted_jax.convert.pickles.records import (
    DamagedError,
    Global,
    Record,
    UnreadableError,
    plain_key,
)
from shunted_jax.convert.pickles.stored import Source, Span, Stored

EVAL = Global("builtins", "eval")
NEWOBJ = Global("copyreg", "__newobj__")
_RECONSTRUCTOR = Global("copyreg", "_reconstructor")
_ENCODE = Global("_codecs", "encode")
_BYTES = Global("builtins", "bytes")


class Call(NamedTuple):
    """A call that a pickle asks for.

    Attributes:
        source: the file.
        arguments: plain data and records.
        spend: is told how many elements are copied.
    """

    source: Source
    arguments: tuple
    spend: Callable[[int], None]


def construct(callee: Global | Record, call: Call) -> Any:
    """Returns what a call gives, where it is one of those that weights need; else a record."""
    arguments = call.arguments
    if callee in (NEWOBJ, _RECONSTRUCTOR) and arguments:
        # The class is the first argument: what is made is an object of it.
        callee, rest = arguments[0], arguments[1:]
        if callee in (NEWOBJ, _RECONSTRUCTOR) or not isinstance(callee, (Global, Record)):
            raise DamagedError("its pickle makes an object of what is no class")
        if len(rest) == 1 and isinstance(rest[0], tuple):
            rest = rest[0]
        arguments = rest
    make = _MADE.get(callee) if isinstance(callee, Global) else None
    if make is None:
        return Record(callee, arguments)
    try:
        return make(call._replace(arguments=arguments))
    except (DamagedError, UnreadableError):
        raise
    except (TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise DamagedError(f"its pickle calls {callee} with what it does not take") from error


def build(target: Any, state: Any, source: Source) -> None:
    """Gives an object its state, as the command BUILD does."""
    if isinstance(target, Record):
        target.state = state
    elif isinstance(target, numpy_arrays.Type):
        target.build(state)
    elif isinstance(target, Stored):
        # An array of numpy gets its numbers so; a tensor of PyTorch only what was hung on to it.
        if isinstance(state, tuple) and len(state) in (4, 5):
            numpy_arrays.fill(target, state, source)
    elif not isinstance(target, dict):  # an ordered dict's attributes are no part of it
        raise DamagedError("its pickle gives a state to what has none")


def _mapping(call: Call) -> dict:
    (pairs,) = call.arguments or ((),)
    if isinstance(pairs, dict):
        pairs = list(pairs.items())
    call.spend(len(pairs))
    return {plain_key(key): value for key, value in pairs}


def _sequence(kind: type) -> Callable[[Call], Any]:
    def make(call: Call) -> Any:
        (values,) = call.arguments or ((),)
        if not isinstance(values, (list, tuple)):
            raise TypeError
        call.spend(len(values))
        return kind(values)

    return make


def _encode(call: Call) -> Any:
    text, encoding = call.arguments
    if encoding not in ("latin1", "latin-1"):
        return Record(_ENCODE, call.arguments)
    if isinstance(text, Span):
        return text
    call.spend(len(text))
    return text.encode("latin1")


def _no_bytes(call: Call) -> Any:
    # Protocols 0 to 2 have no word for none at all.
    return Record(_BYTES, call.arguments) if call.arguments else b""


def _eval(call: Call) -> Any:
    # Paddle 3 writes a tensor inside of others as eval("data", {"data": array}): that is the array.
    if len(call.arguments) == 2 and call.arguments[0] == "data":
        names = call.arguments[1]
        if isinstance(names, dict) and names.keys() == {"data"}:
            return names["data"]
    return Record(EVAL, call.arguments)


_MADE: dict[Global, Callable[[Call], Any]] = {
    Global("collections", "OrderedDict"): _mapping,
    Global("builtins", "dict"): _mapping,
    Global("collections", "defaultdict"): lambda call: {},  # filled by later commands
    Global("builtins", "tuple"): _sequence(tuple),
    Global("builtins", "list"): _sequence(list),
    Global("builtins", "set"): _sequence(list),  # whose members nobody looks up
    Global("builtins", "frozenset"): _sequence(list),
    Global("torch", "Size"): _sequence(tuple),
    _ENCODE: _encode,
    _BYTES: _no_bytes,
    EVAL: _eval,
    **{Global(*name): make for name, make in numpy_arrays.MADE.items()},
    **{Global(*name): make for name, make in torch_tensors.MADE.items()},
}
