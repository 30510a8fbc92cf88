"""What a file is, by how it starts; and for what holds no state dict, how to come by one."""

import json
import re
import shlex
import zipfile
from pathlib import Path

from shunted_jax.convert.names import shown
from shunted_jax.errors import UserError

# What files are packed with: how they start, and what unpacks one to standard output.
_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip -c"),
    b"BZh": ("bzip2", "bunzip2 -c"),
    b"\xfd7zXZ\x00": ("xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
}
_ARCHIVES = {b"7z\xbc\xaf\x27\x1c": ("7-Zip", "7z x"), b"Rar!\x1a\x07": ("RAR", "unrar x")}
_OF_EXPORT = ("models/model.json", "serialized_exported_program.json")
_FROM_EXPORT = 'import torch; torch.save(torch.export.load(PATH).state_dict, "weights.pth")'
_FROM_NUMPY = (
    "import numpy, safetensors.numpy as s; "
    's.save_file(dict(numpy.load(PATH)), "weights.safetensors")'
)
_FROM_ONNX = (
    "import onnx, onnx.numpy_helper as h, safetensors.numpy as s; "
    "tensors = onnx.load(PATH).graph.initializer; "
    's.save_file({t.name: h.to_array(t) for t in tensors}, "weights.safetensors")'
)
_UNPACK = "unpack it, and convert what is in it"
# Pickles of protocols 2 to 5 say so first. Older ones begin with a container, or torch's number.
_OLD_PICKLE = re.compile(rb"\(dp|\(lp|[}\]]q\x00|c[a-zA-Z_.]+\n|L\d+L\n|\x8a\x0a")
_END_OF_ARCHIVE = 22  # bytes of the record that an archive ends with
_TAR = slice(257, 262)
_DCP = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pth"
_STATE_DICT = 'in the program that made it, paddle.save(network.state_dict(), "weights.pdparams")'


def kind_of(path: Path) -> str:
    """Returns "safetensors", "zip" or "pickle".

    Raises:
        UserError: the file is not there, or is nothing that holds a state dict.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the .pth or .safetensors file itself")
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if not path.is_file():  # to wait for what comes out of it may take for ever
        raise UserError(
            f"{path} is a pipe or a device: save what comes out of it as a file, and give that"
        )
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise UserError(f"{path} is empty: download it again")
    if message := _no_weights(path, start) or _packed(path, start):
        raise UserError(f"{path} {message}")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "safetensors"
    if start.startswith(b"PK"):
        return "zip"
    if start[0] == 0x80 or _OLD_PICKLE.match(start):
        return "pickle"
    raise UserError(
        f"{path} is neither a PyTorch nor a safetensors file: it starts with {start[:16]!r}"
    )


def check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuses a zip archive that is not PyTorch's.

    Raises:
        UserError: it is of another kind, and holds weights in another form or none.
    """
    infos = archive.infolist()
    names = [info.filename for info in infos]
    quoted = shlex.quote(str(path))
    if path.suffix == ".distcp" or _follows_another(path, infos):
        raise UserError(_dcp(path, path.parent))
    if any(name.endswith(("/data.pkl", "\\data.pkl")) or name == "data.pkl" for name in names):
        if not any(name.endswith("/data.pkl") for name in names):
            raise UserError(
                f"{path} is PyTorch's archive without its folder, packed once more by another "
                "program: torch.load and torch.save it again"
            )
        return
    if any(name.endswith(_OF_EXPORT) for name in names):
        raise UserError(
            f"{path} is a program of torch.export: make a file of its weights with\n  "
            + _python(_FROM_EXPORT, path)
        )
    if names and all(name.endswith(".npy") for name in names):
        raise UserError(
            f"{path} is an archive of numpy's: make a readable file of it with\n  "
            + _python(_FROM_NUMPY, path)
        )
    inside = ", ".join(map(shown, names[:4])) or "nothing"
    raise UserError(
        f"{path} is a zip archive around other files ({inside}): {_UNPACK}\n  unzip {quoted}"
    )


def _follows_another(path: Path, infos: list[zipfile.ZipInfo]) -> bool:
    """Whether a file is several archives, one after the other."""
    first = min((info.header_offset for info in infos), default=0)
    if first < _END_OF_ARCHIVE:
        return False
    with path.open("rb") as file:
        file.seek(first - _END_OF_ARCHIVE)
        return file.read(4) == b"PK\x05\x06"


def _no_weights(path: Path, start: bytes) -> str | None:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            "is a web page, not a checkpoint: a download site's error or confirmation page was "
            "saved in its place; download it again in a browser"
        )
    if text.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the file: run git lfs pull where it comes from"
    if text.startswith(b"{") and b'"base_code"' in text:
        return f"is a static graph of Paddle's, without weights: {_STATE_DICT}"
    if start[:16] == bytes(16) and start[20:21] == b"\x08":
        return f"holds the parameters of a static graph of Paddle's, without names: {_STATE_DICT}"
    if path.suffix == ".pdmodel":
        return f"is a static graph of Paddle's, without weights: {_STATE_DICT}"
    if path.suffix == ".onnx" or (start[0] == 8 and b"\x12\x07pytorch" in start[:32]):
        return (
            "is an ONNX file, a computation whose weights go by other names: convert the "
            "checkpoint that it was exported from, and without one make a file with\n  "
            + _python(_FROM_ONNX, path)
        )
    if start.startswith(b"\x89HDF"):
        return "is an HDF5 file, as Keras writes them: PyTorch's and Paddle's are read"
    if start[0] == 0x80 and b"torch.distributed.checkpoint.metadata" in start:
        return _dcp_message(path.parent)
    return None


def _packed(path: Path, start: bytes) -> str | None:
    quoted = shlex.quote(str(path))
    if start[_TAR] == b"ustar":
        return f"is a tar archive around other files: {_UNPACK}\n  tar -xf {quoted}"
    for signature, (name, command) in _PACKED.items():
        if start.startswith(signature):
            if ".tar" in path.suffixes or path.suffix == ".tgz":
                return f"is a tar archive, packed with {name}: {_UNPACK}\n  tar -xf {quoted}"
            packed = path.suffix in (".gz", ".bz2", ".xz", ".zst")
            out = path.with_suffix("") if packed else path.with_name(f"{path.name}.unpacked")
            return (
                f"is packed with {name}: {_UNPACK}\n  {command} {quoted} > {shlex.quote(str(out))}"
            )
    for signature, (name, command) in _ARCHIVES.items():
        if start.startswith(signature):
            return f"is a {name} archive around other files: {_UNPACK}\n  {command} {quoted}"
    return None


def _dcp(path: Path, folder: Path) -> str:
    return f"{path} {_dcp_message(folder)}"


def _dcp_message(folder: Path) -> str:
    command = _DCP.format(folder=shlex.quote(str(folder)))
    return f"is of torch.distributed.checkpoint: make one file of its folder with\n  {command}"


def _python(code: str, path: Path) -> str:
    return "python -c " + shlex.quote(code.replace("PATH", json.dumps(str(path))))
