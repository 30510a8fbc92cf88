"""TFRecord files become ArrayRecord files of the same records, or what is wrong is said."""

import json
import os
import shutil
import struct
import sys

import google_crc32c
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core.utils import shard_utils

from shunted_jax.commands import prepare
from shunted_jax.data.builders import tfrecords, unfinished
from shunted_jax.errors import UserError
from tests.data import archives


def masked(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def frame(record):
    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


def records_in(path):
    return array_record_module.ArrayRecordReader(str(path)).read_all()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Returns the folder of an ArrayRecord data set of four shards and two."""
    folder = tmp_path_factory.mktemp("original")
    source = archives.make_imagenet_archives(folder / "archives")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_utils.ShardConfig, "min_shard_size", 2200)
        return prepare.prepare_imagenet2012(source, folder / "data", partial=True)


@pytest.fixture
def source(original, tmp_path):
    """Returns the folder of the same data set as TFRecord."""
    folder = tmp_path / "tfrecord" / "imagenet2012" / "5.1.0"
    shutil.copytree(original, folder)
    for path in folder.glob("*array_record*"):
        new = path.with_name(path.name.replace("array_record", "tfrecord"))
        new.write_bytes(b"".join(frame(record) for record in records_in(path)))
        path.unlink()
    edit(folder, fileFormat="tfrecord")
    return folder


def edit(folder, **values):
    path = folder / "dataset_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}, indent=2))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def inodes(folder):
    return {path.name: path.stat().st_ino for path in folder.glob("*array_record*")}


def test_every_file_is_as_if_it_had_been_built_so(source, original, tmp_path, capsys):
    before = contents(source)
    arguments = ["from-tfrecord", "--source", str(source), "--data-dir", str(tmp_path / "out")]
    assert prepare.main(arguments) == 0
    folder = tmp_path / "out" / "imagenet2012" / "5.1.0"
    said = f"imagenet2012: 12 train, 5 validation examples in {folder}\n"
    assert capsys.readouterr().out == said
    assert contents(folder) == contents(original)
    assert contents(source) == before
    assert [path.name for path in folder.parent.iterdir()] == ["5.1.0"]
    train = tfds.data_source("imagenet2012", split="train", data_dir=tmp_path / "out")
    assert len(train) == 12
    assert train[11]["image"].shape == (24, 32, 3)
    assert "tensorflow" not in sys.modules
    # And again: it is left alone.
    assert prepare.main(arguments) == 0
    assert capsys.readouterr().out == said


def test_configuration_and_unknown_name(source, tmp_path):
    edit(source, name="nobodys", configName="odd", moduleName="")
    for path in source.glob("imagenet2012-*"):
        path.rename(source / path.name.replace("imagenet2012", "nobodys"))
    folder = prepare.convert_tfrecords(source, tmp_path / "out")
    assert folder == tmp_path / "out" / "nobodys" / "odd" / "5.1.0"
    for builder in (
        tfds.builder_from_directory(str(folder)),
        tfds.builder("nobodys/odd", data_dir=tmp_path / "out"),
    ):
        assert len(builder.as_data_source("validation")) == 5


def damaged(source, number, inside):
    """Returns a file, and where byte `inside` of its record `number` is."""
    path = source / "imagenet2012-train.tfrecord-00001-of-00004"
    place = 0
    content = path.read_bytes()
    for _ in range(number):
        place += struct.unpack_from("<Q", content, place)[0] + 16
    length = struct.unpack_from("<Q", content, place)[0]
    return path, place, place + (inside if inside >= 0 else length + 16 + inside)


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        (0, "its length's checksum does not match"),
        (7, "its length's checksum does not match"),
        (9, "its length's checksum does not match"),
        (12, "its data's checksum does not match"),
        (200, "its data's checksum does not match"),
        (-1, "its data's checksum does not match"),
    ],
)
def test_flipped_bit_is_found(source, tmp_path, capsys, number, inside, reason):
    path, start, place = damaged(source, number, inside)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    arguments = ["from-tfrecord", "--source", str(source), "--data-dir", str(tmp_path / "out")]
    assert prepare.main(arguments) == 2
    message = capsys.readouterr().err
    assert f"{path} is damaged in record {number} (the first is 0), at byte {start:,}: " in message
    assert reason in message
    assert not (tmp_path / "out" / "imagenet2012" / "5.1.0").exists()


@pytest.mark.parametrize("inside", [1, 11, 12, 100, -1])
def test_truncated_file_is_found(source, tmp_path, inside):
    path, start, place = damaged(source, 2, inside)
    os.truncate(path, place)
    with pytest.raises(UserError, match=rf"record 2 .* at byte {start:,}: the file ends within it"):
        prepare.convert_tfrecords(source, tmp_path / "out")


@pytest.mark.parametrize("more", [-1, 1])
def test_other_number_of_records_is_found(source, tmp_path, more):
    path, start, _ = damaged(source, 2, 0)
    content = path.read_bytes()
    path.write_bytes(content[:start] if more < 0 else content + frame(b"one more"))
    with pytest.raises(UserError, match=f"{path} holds {3 + more} records, and .* says 3: get"):
        prepare.convert_tfrecords(source, tmp_path / "out")


def test_goes_on_with_the_shard_that_it_failed_at(source, original, tmp_path):
    path, _, place = damaged(source, 1, 50)
    sound = path.read_bytes()
    path.write_bytes(sound[:place] + b"?" + sound[place + 1 :])
    with pytest.raises(UserError, match="is damaged in record 1 "):
        prepare.convert_tfrecords(source, tmp_path / "out")
    work = tmp_path / "out" / "imagenet2012" / "5.1.0.incomplete"
    done = inodes(work / "data")
    assert list(done) == ["imagenet2012-train.array_record-00000-of-00004"]
    path.write_bytes(sound)
    folder = prepare.convert_tfrecords(source, tmp_path / "out")
    assert done.items() <= inodes(folder).items()
    assert contents(folder) == contents(original)


def test_interrupted_conversion_goes_on(source, original, tmp_path, monkeypatch, capsys):
    write_shard = unfinished.Unfinished.write_shard

    def interrupted(self, name, records, count):
        if name.endswith("00003-of-00004"):
            next(records)
            raise KeyboardInterrupt
        write_shard(self, name, records, count)

    arguments = ["from-tfrecord", "--source", str(source), "--data-dir", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(unfinished.Unfinished, "write_shard", interrupted)
        assert prepare.main(arguments) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    done = inodes(tmp_path / "out" / "imagenet2012" / "5.1.0.incomplete" / "data")
    assert len(done) == 3
    assert prepare.main(arguments) == 0
    folder = tmp_path / "out" / "imagenet2012" / "5.1.0"
    assert done.items() <= inodes(folder).items()
    assert contents(folder) == contents(original)


def test_what_is_no_source_is_said(source, original, tmp_path):
    def converting(folder, data_dir=tmp_path / "out"):
        return lambda: prepare.convert_tfrecords(folder, data_dir)

    (source / "imagenet2012-train.tfrecord-00002-of-00004").unlink()
    lacking = shutil.copytree(source, tmp_path / "lacking")
    (source / "dataset_info.json").write_text("{")
    for convert, message in (
        (converting(tmp_path), "has no dataset_info.json: name the folder of the data set's"),
        (converting(original), "is prepared as array_record: only tfrecord can be converted"),
        (
            converting(lacking),
            "lacks 1 of its 6 files of records, first imagenet2012-train.tfrecord",
        ),
        (converting(source), "cannot be read as a data set: "),
    ):
        with pytest.raises(UserError, match=message):
            convert()
    assert not (tmp_path / "out").exists()


def test_source_is_not_its_own_destination(source):
    before = contents(source)
    with pytest.raises(UserError, match="as tfrecord and not as array_record: choose another"):
        prepare.convert_tfrecords(source, source.parent.parent)
    assert contents(source) == before


def test_checksum_is_that_of_the_format():
    # A file of one empty record, as TensorFlow writes it: b"\0" * 8, 29 03 98 07, d8 ea 82 a2.
    assert tfrecords.masked_crc(bytes(8)) == 0x07980329
    assert tfrecords.masked_crc(b"") == 0xA282EAD8
