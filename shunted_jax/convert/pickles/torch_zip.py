"""The zip archives of `torch.save` and `torch.jit.save`: a pickle, and a member a storage."""

import zipfile
import zlib
from pathlib import PurePosixPath
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

PICKLE = "data.pkl"
_LOCAL_HEADER = 30
_CHUNK = 1 << 20


def read_archive(source: Source, archive: zipfile.ZipFile) -> tuple[Any, str]:
    """Returns what an archive of PyTorch's holds, and which kind of archive it is."""
    members = _Members(source, archive)
    folder = members.folder
    order = members.text(f"{folder}/byteorder")
    if order == "big":
        raise high_byte_first()
    storages: dict[str, Storage] = {}

    def persistent(named: Any) -> Any:
        if not isinstance(named, tuple) or len(named) != 5 or named[0] != "storage":
            raise no_storage(named)
        _, kind, key, _, count = named
        dtype = type_of_storage(kind)
        if dtype is None:
            if not isinstance(kind, Global):
                raise DamagedError("its pickle names a storage without a type")
            return Record(kind, ())
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise DamagedError("its pickle names a storage without a name or a size")
        if key not in storages:
            storages[key] = members.storage(f"{folder}/data/{key}")
        if count * dtype.itemsize > storages[key].size:
            raise DamagedError(f"the storage {key} is shorter than its pickle says")
        return Typed(storages[key], dtype)

    pickle = members.storage(f"{folder}/{PICKLE}")
    members.compare(pickle, f"{folder}/{PICKLE}")
    loaded, _ = run(source, pickle.offset, pickle.offset + pickle.size, persistent)
    script = f"{folder}/constants.pkl" in members.by_name
    return loaded, "a TorchScript archive" if script else "a file of torch.save"


class _Members:
    """An archive's members, by where they lie in the file."""

    def __init__(self, source: Source, archive: zipfile.ZipFile):
        self.source = source
        self.by_name = {info.filename: info for info in archive.infolist()}
        pickles = [PurePosixPath(name) for name in self.by_name if name.endswith(f"/{PICKLE}")]
        self.folder = str(min(pickles, key=lambda path: len(path.parts)).parent)
        at = 0
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            if info.header_offset < at:
                raise DamagedError(f"its members overlap at {info.filename}")
            at = info.header_offset + _LOCAL_HEADER + info.compress_size

    def storage(self, name: str) -> Storage:
        """Returns where a member lies, after its header."""
        info = self.by_name.get(name)
        if info is None:
            raise DamagedError(f"it lacks {name}")
        header = self.source.map[info.header_offset : info.header_offset + _LOCAL_HEADER]
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise DamagedError(f"{name} has no header")
        # The member's own header and the entry at the file's end agree, where neither is damaged.
        if header[6] & 1 != info.flag_bits & 1 or header[8] != info.compress_type:
            raise DamagedError(f"{name} is said to be packed in two ways")
        if info.flag_bits & 1:
            raise UnreadableError("is an archive with a password: unpack it, and pack it without")
        if info.compress_type != zipfile.ZIP_STORED:
            raise UnreadableError(
                "is PyTorch's archive, packed once more by another program, which compressed it: "
                "torch.load and torch.save it again"
            )
        if info.compress_size != info.file_size:
            raise DamagedError(f"{name} has two sizes")
        lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        start = info.header_offset + _LOCAL_HEADER + sum(lengths)
        return Storage(self.source, info.file_size, name, info.CRC).place(start)

    def compare(self, member: Storage, name: str) -> None:
        """Compares a member's checksum without taking the member up."""
        found = 0
        for at in range(member.offset, member.offset + member.size, _CHUNK):
            end = min(at + _CHUNK, member.offset + member.size)
            found = zlib.crc32(self.source.map[at:end], found)
        if found != self.by_name[name].CRC:
            raise DamagedError(f"the checksum of {name} is wrong")

    def text(self, name: str) -> str | None:
        """Returns a small member's text; None where there is none."""
        if name not in self.by_name:
            return None
        member = self.storage(name)
        return member.read(0, min(member.size, 16)).tobytes().decode("latin1").strip()
