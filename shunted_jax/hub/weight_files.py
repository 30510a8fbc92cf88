"""The files of a folder that hold its weights: one, or several with an index of their tensors."""

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from shunted_jax.convert.files import Loaded, read_file, reading
from shunted_jax.convert.names import shown
from shunted_jax.errors import UserError, some
from shunted_jax.hub.json_file import read_object

_INDEX = ".index.json"
# What transformers, accelerate and `huggingface_hub`'s own mixin write; the first is taken.
NAMES = tuple(
    name + index for name in ("model.safetensors", "pytorch_model.bin") for index in ("", _INDEX)
)


def weights_among(names: Collection[str], where: Any) -> str | None:
    """Returns which file to begin with, weights or an index; None where there is none.

    Args:
        names: of a folder's files.
        where: the folder, for messages.

    Raises:
        UserError: there are both, one file and an index.
    """
    found = [name for name in NAMES if name in names]
    if found and found[0] + _INDEX in found:
        raise UserError(
            f"{where} holds both {found[0]} and {found[0]}{_INDEX}, and one of them is old: remove "
            "that one"
        )
    return found[0] if found else None


def files_of(first: Path) -> list[str]:
    """Returns the names of the files that hold tensors: `first`, or those that it lists.

    Raises:
        UserError: it is an index that cannot be read, or that names files elsewhere.
    """
    return _each_once(_weight_map(first)) if _is_index(first) else [first.name]


def read_weight_files(first: Path) -> tuple[Loaded, list[Path]]:
    """Reads a folder's tensors.

    Args:
        first: the file of weights, or the index of several.

    Returns:
        What the files hold, as `read_file` returns it, and the files. To be called, and the
        tensors' numbers read, within `reading`.

    Raises:
        UserError: a file is missing or cannot be read, or holds other tensors than the index says.
    """
    if not _is_index(first):
        return read_file(first), [first]
    listed, tensors, found_in = _weight_map(first), {}, {}
    files = [first.parent / name for name in _each_once(listed)]
    if missing := [file.name for file in files if not file.exists()]:
        raise UserError(
            f"{first} lists {len(files)} files, and {some(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there: download the folder again"
        )
    for file in files:
        with reading(file):
            part, kind = read_file(file)
        if not all(hasattr(tensor, "shape") for tensor in _values(part, file)):
            raise UserError(f"{file} holds more than tensors, and {first.name} lists those alone")
        part = {shown(str(name)): tensor for name, tensor in part.items()}
        if twice := [name for name in part if name in tensors]:
            raise UserError(
                f"{some(twice)} is in two files, {found_in[twice[0]]} and {file.name}, and which "
                "one is right cannot be told: save the weights again"
            )
        tensors |= part
        found_in |= dict.fromkeys(part, file.name)
    names = sorted(listed.keys() | found_in.keys())
    if differing := [name for name in names if listed.get(name) != found_in.get(name)]:
        name = differing[0]
        raise UserError(
            f"{first} is not the index of the files beside it: it has {name} in "
            f"{listed.get(name, 'none')}, and {name} is in {found_in.get(name, 'none')} (of "
            f"{len(names):,} tensors, {len(differing):,} are so); download the folder again"
        )
    return Loaded(tensors, f"{len(files)} files, each {kind}"), files


def _each_once(listed: Mapping[str, str]) -> list[str]:
    return sorted(set(listed.values()))


def _values(part: Any, file: Path) -> Collection[Any]:
    if not hasattr(part, "values"):
        raise UserError(f"{file} holds a {type(part).__name__}, not a mapping of names to tensors")
    return part.values()


def _is_index(first: Path) -> bool:
    return first.name.endswith(_INDEX)


def _weight_map(index: Path) -> dict[str, str]:
    """Returns the name of the file of each tensor."""
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{index} lists no tensors under weight_map: download it again")
    listed = {shown(tensor): str(file) for tensor, file in listed.items()}
    for name in _each_once(listed):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise UserError(
                f"{index} names a file outside of its folder, {name!r}, which no index needs: "
                "nothing was read"
            )
    return listed
