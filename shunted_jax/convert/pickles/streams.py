"""Files that are pickles one after the other: `torch.save` before 1.6, and pickles alone."""

from typing import Any

from shunted_jax.convert.pickles.machine import run
from shunted_jax.convert.pickles.records import (
    DamagedError,
    Global,
    Record,
    UnreadableError,
    high_byte_first,
    no_storage,
)
from shunted_jax.convert.pickles.stored import Source, Storage
from shunted_jax.convert.pickles.torch_tensors import Typed, type_of_storage

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_COUNT = 8  # bytes before each storage, which say how many elements it has


def read_stream(source: Source) -> tuple[Any, str]:
    """Returns what a file of pickles holds, and which kind of file it is."""
    first, end = run(source, 0, source.size, _beside)
    if first == _MAGIC and isinstance(first, int):
        return _read_legacy(source, end), "a file of torch.save, in its older form"
    return first, "a pickle"


def _beside(named: Any) -> Record:
    return Record(Global("pickle", "persistent_load"), (named,))


def _read_legacy(source: Source, at: int) -> Any:
    version, at = run(source, at, source.size, _beside)
    about, at = run(source, at, source.size, _beside)
    if version != _VERSION or not isinstance(about, dict):
        raise DamagedError("it says no version of torch.save's that there is")
    if about.get("little_endian") is not True:
        raise high_byte_first()
    wanted: dict[str, Typed] = {}

    def persistent(named: Any) -> Any:
        if not isinstance(named, tuple) or len(named) < 2:
            raise no_storage(named)
        if named[0] == "module":  # a class, with its source code
            return named[1]
        if named[0] != "storage" or len(named) != 6:
            raise no_storage(named)
        _, kind, key, _, count, view = named
        dtype = type_of_storage(kind)
        if not isinstance(kind, Global) or not isinstance(key, str) or type(count) is not int:
            raise DamagedError("its pickle names a storage without a type, a name or a size")
        if view is not None:
            raise UnreadableError(
                "has views of storages, as PyTorch before 0.4 wrote them: torch.load and "
                "torch.save it again"
            )
        if dtype is None:
            raise UnreadableError(f"has numbers of the type {kind}, which is not read")
        if key not in wanted:
            # Where it lies is known once the pickle is at its end.
            wanted[key] = Typed(
                Storage(source, count * dtype.itemsize, f"the storage {key}"), dtype
            )
        if count * dtype.itemsize > wanted[key].storage.size:
            raise DamagedError(f"the storage {key} is shorter than its pickle says")
        return Typed(wanted[key].storage, dtype)

    loaded, at = run(source, at, source.size, persistent)
    keys, at = run(source, at, source.size, _beside)
    if not isinstance(keys, list) or set(map(type, keys)) - {str} or set(keys) != set(wanted):
        raise DamagedError("its list of storages is not that of its pickle")
    for key in keys:
        count = int.from_bytes(source.map[at : at + _COUNT], "little")
        typed = wanted[key]
        if count * typed.dtype.itemsize != typed.storage.size:
            raise DamagedError(f"the storage {key} has not the size that its pickle says")
        typed.storage.place(at + _COUNT)
        at += _COUNT + typed.storage.size
    return loaded
