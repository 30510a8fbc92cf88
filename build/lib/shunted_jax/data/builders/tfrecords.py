"""A prepared data set of TFRecord files as one of ArrayRecord, record by record.

A record in a TFRecord file, and there is nothing else in it:

    length      8 bytes, little-endian
    its crc     4 bytes: CRC-32C, rotated right by 15 bits, plus a constant
    data        of that length
    its crc     4 bytes
"""

import dataclasses
import functools
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import tensorflow_datasets as tfds

from shunted_jax.data.builders import unfinished
from shunted_jax.data.builders.counter import Counter
from shunted_jax.errors import UserError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def convert(source: str | os.PathLike, data_dir: str | os.PathLike) -> Path:
    """Converts a data set that tensorflow-datasets prepared as TFRecord, unless it is there.

    Args:
        source: the data set's own folder, such as ~/tensorflow_datasets/imagenet2012/5.1.0. It is
            left as it is.
        data_dir: where to make <name>/<version>, or <name>/<config>/<version>.

    Returns:
        The new data set's own folder.

    Raises:
        UserError: `source` is no such data set, is damaged, or the disk is full or fails.
    """
    source = Path(source).expanduser()
    info = _read_info(source)
    parts = [info.name, info.config_name or "", str(info.version)]
    final = Path(data_dir).expanduser().joinpath(*parts)
    if not unfinished.is_there(final):
        unfinished.finish(final, functools.partial(_make, source, info, _shards(source, info)))
    return final


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file.

    Raises:
        UserError: a checksum says that it is damaged, or it ends within a record.
    """
    with open(path, "rb") as file:
        number = 0
        while True:
            offset = file.tell()
            header = file.read(_HEADER.size)
            if not header:
                return
            damage = functools.partial(_damaged, path, number, offset)
            if len(header) < _HEADER.size:
                raise damage("the file ends within it")
            length, crc = _HEADER.unpack(header)
            # Before anything believes the length.
            if crc != masked_crc(header[:8]):
                raise damage("its length's checksum does not match")
            yield _read_data(file, length, damage)
            number += 1


def masked_crc(data: bytes) -> int:
    """Returns the checksum as TFRecord files have it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _read_data(file: BinaryIO, length: int, damage: Callable[[str], UserError]) -> bytes:
    body = file.read(length + _FOOTER.size)
    if len(body) < length + _FOOTER.size:
        raise damage("the file ends within it")
    data = body[:length]
    if _FOOTER.unpack(body[length:])[0] != masked_crc(data):
        raise damage("its data's checksum does not match")
    return data


def _damaged(path: Path, number: int, offset: int, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged in record {number:,} (the first is 0), at byte {offset:,}: {reason}; "
        "get a sound copy of the file and start again"
    )


def _read_info(source: Path) -> tfds.core.DatasetInfo:
    path = source / "dataset_info.json"
    if not path.is_file():
        raise UserError(
            f"{source} has no {path.name}: name the folder of the data set's version, such as "
            "~/tensorflow_datasets/imagenet2012/5.1.0"
        )
    try:
        info = tfds.builder_from_directory(os.fspath(source)).info
    except Exception as error:  # of many kinds, for a file that may hold anything
        raise UserError(f"{source} cannot be read as a data set: {error}") from error
    if info.file_format != tfds.core.FileFormat.TFRECORD:
        raise UserError(
            f"{source} is prepared as {info.file_format.value}: only tfrecord can be converted"
        )
    return info


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A file of the source: where it is, its name as ArrayRecord, how many records it must hold."""

    path: Path
    name: str
    length: int


def _shards(source: Path, info: tfds.core.DatasetInfo) -> list[_Shard]:
    shards = []
    for split in info.splits.values():
        template = split.filename_template
        old = template.sharded_filenames(split.num_shards)
        new = template.replace(filetype_suffix="array_record").sharded_filenames(split.num_shards)
        for old_name, name, length in zip(old, new, split.shard_lengths, strict=True):
            shards.append(_Shard(source / old_name, name, length))
    missing = [shard.path.name for shard in shards if not shard.path.is_file()]
    if missing or not shards:
        raise UserError(
            f"{source} lacks {len(missing):,} of its {len(shards):,} files of records"
            f"{', first ' + missing[0] if missing else ''}: complete it and start again"
        )
    return shards


def _make(
    source: Path,
    info: tfds.core.DatasetInfo,
    shards: list[_Shard],
    work: unfinished.Unfinished,
) -> None:
    content = json.loads((source / "dataset_info.json").read_text())
    # Not of the files' times: one that was damaged is replaced, and the others' shards are kept.
    work.keep_only_if(content)
    work.check_space(sum(shard.path.stat().st_size for shard in shards))
    total = sum(shard.length for shard in shards)
    done = sum(shard.length for shard in shards if work.has(shard.name))
    with Counter(f"converting {info.name}", total, done, unit="records") as counter:
        for shard in shards:
            if not work.has(shard.name):
                work.write_shard(shard.name, _counted(shard, counter), shard.length)
    # The features, the names of the labels, a licence.
    done = {shard.path for shard in shards}
    for path in source.iterdir():
        if path.is_file() and path not in done:
            shutil.copyfile(path, work.data / path.name)
    content["fileFormat"] = "array_record"
    (work.data / "dataset_info.json").write_text(json.dumps(content, indent=2, sort_keys=True))


def _counted(shard: _Shard, counter: Counter) -> Iterator[bytes]:
    found = 0
    for record in read_records(shard.path):
        yield record
        found += 1
        counter.update(1)
    if found != shard.length:
        raise UserError(
            f"{shard.path} holds {found:,} records, and its dataset_info.json says "
            f"{shard.length:,}: get a sound copy of the file and start again"
        )
