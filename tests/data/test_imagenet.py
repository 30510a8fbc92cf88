"""ImageNet's files are the stock builder's, however often making them was interrupted."""

import contextlib
import errno
import fcntl
import io
import logging
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import termios
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.core.utils import shard_utils
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as stock
from tensorflow_datasets.proto import tf_example_pb2

from shunted_jax.commands import prepare
from shunted_jax.data.builders import counter, layout, unfinished
from shunted_jax.data.sources import open_source
from shunted_jax.errors import UserError
from tests.data import archives
from tests.support.full_disk import largest_file


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return archives.make_imagenet_archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture
def small_shards(monkeypatch):
    """The tiny splits have four shards and two, as tensorflow-datasets divides them."""
    monkeypatch.setattr(shard_utils.ShardConfig, "min_shard_size", 2200)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    """Returns the data_dir of an undisturbed build of small shards, not to be changed."""
    data_dir = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_utils.ShardConfig, "min_shard_size", 2200)
        prepare.prepare_imagenet2012(source, data_dir, partial=True)
    return data_dir


def contents(data_dir):
    folder = data_dir / "imagenet2012"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def shards_of(folder):
    return {path.name: path.stat() for path in folder.glob("*array_record*")}


class Reference(stock.Builder, skip_registration=True):
    """The stock builder, but for what it does with TensorFlow."""

    name = "imagenet2012"
    pkg_dir_path = stock.Builder.pkg_dir_path
    source = None

    def _split_generators(self, dl_manager):
        return {"train": self._train(), "validation": self._validation()}

    def _train(self):
        with tarfile.open(self.source / archives.TRAIN) as outer:
            for synset in outer:
                with tarfile.open(fileobj=outer.extractfile(synset)) as inner:
                    for member in inner:
                        image = inner.extractfile(member)
                        if member.name in (archives.CMYK, archives.PNG):
                            recoded = io.BytesIO()
                            Image.open(image).convert("RGB").save(recoded, "JPEG", quality=100)
                            image = io.BytesIO(recoded.getvalue())
                        label = synset.name.removesuffix(".tar")
                        example = {"image": image, "label": label, "file_name": member.name}
                        yield member.name, example

    def _validation(self):
        with tarfile.open(self.source / archives.VALIDATION) as archive:
            names = sorted(archive.getnames())
            labels = dict(zip(names, archives.validation_synsets(), strict=False))
            for member in archive:
                image = archive.extractfile(member)
                example = {"image": image, "label": labels[member.name], "file_name": member.name}
                yield member.name, example


def build_reference(source, data_dir, monkeypatch, **config):
    monkeypatch.setattr(Reference, "source", source)
    monkeypatch.setattr(Reference, "__module__", stock.Builder.__module__)
    builder = Reference(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**config))


def records_of(data_dir):
    files = sorted((data_dir / "imagenet2012" / "5.1.0").glob("*array_record*"))
    readers = [array_record_module.ArrayRecordReader(str(path)) for path in files]
    return [(path.name, reader.read_all()) for path, reader in zip(files, readers, strict=True)]


@pytest.mark.parametrize("min_shard_size", [2200, 64 << 20])
def test_every_file_is_the_stock_builders(source, tmp_path, monkeypatch, min_shard_size):
    monkeypatch.setattr(shard_utils.ShardConfig, "min_shard_size", min_shard_size)
    # The order of a record's fields is a process' chance in the stock builder: here it is sorted.
    monkeypatch.setattr(
        example_serializer.ExampleSerializer,
        "serialize_example",
        lambda self, example: self.get_tf_example(example).SerializeToString(deterministic=True),
    )
    build_reference(source, tmp_path / "stock", monkeypatch)
    prepare.prepare_imagenet2012(source, tmp_path / "ours", partial=True)
    ours, reference = contents(tmp_path / "ours"), contents(tmp_path / "stock")
    assert len(ours) == (9 if min_shard_size == 2200 else 5)
    assert ours.keys() == reference.keys()
    assert [name for name in ours if ours[name] != reference[name]] == []


def test_examples_are_the_stock_builders_messages(source, built, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_utils.ShardConfig, "min_shard_size", 2200)
    build_reference(source, tmp_path, monkeypatch)
    ours, reference = records_of(built), records_of(tmp_path)
    assert [name for name, _ in ours] == [name for name, _ in reference]
    for (_, records), (_, expected) in zip(ours, reference, strict=True):
        assert [len(record) for record in records] == [len(record) for record in expected]
        parse = tf_example_pb2.Example.FromString
        assert [parse(record) for record in records] == [parse(record) for record in expected]


def test_is_read_by_name_with_its_labels(source, built):
    train, validation = (
        tfds.data_source("imagenet2012", split=split, data_dir=built, download=False)
        for split in ("train", "validation")
    )
    labels = train.dataset_info.features["label"]
    assert len(train) == 12
    for example in train:
        assert labels.int2str(example["label"]) == example["file_name"].decode().split("_")[0]
    expected = archives.validation_synsets()
    assert [
        (example["file_name"].decode(), labels.int2str(example["label"]))
        for example in sorted(validation, key=lambda example: example["file_name"])
    ] == [(f"ILSVRC2012_val_{number:08d}.JPEG", expected[number - 1]) for number in range(1, 6)]
    assert len(open_source("imagenet2012", "train[:50%]", str(built))) == 6
    assert "tensorflow" not in sys.modules


def test_only_listed_images_are_encoded_anew(tmp_path):
    other = {"n01440764_7.JPEG": "CMYK", "n01440764_8.JPEG": "RGB"}
    originals = {
        name: archives.jpeg(7, 32, mode, "JPEG" if mode == "CMYK" else "PNG")
        for name, mode in other.items()
    }
    archives.make_imagenet_archives(tmp_path, classes=("n01739381", "n02105855"))
    class_archive = io.BytesIO()
    with tarfile.open(fileobj=class_archive, mode="w") as archive:
        for name, image in originals.items():
            archives._add(archive, name, image)
    with tarfile.open(tmp_path / archives.TRAIN, "a") as archive:
        archives._add(archive, "n01440764.tar", class_archive.getvalue())
    prepare.prepare_imagenet2012(tmp_path, tmp_path / "out", partial=True)
    source = open_source("imagenet2012", "train", str(tmp_path / "out"))
    images = {example["file_name"].decode(): example["image"] for example in source.examples}
    assert {name: images[name] for name in other} == originals
    for name in (archives.CMYK, archives.PNG):
        image = Image.open(io.BytesIO(images[name]))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert {table[0] for table in image.quantization.values()} == {1}  # quality 100


def test_any_subset_of_validation_images_has_its_labels(tmp_path):
    numbers = [49_999, 3, 50_000, 1234]
    archives.make_imagenet_archives(tmp_path, val=numbers)
    (tmp_path / archives.TRAIN).unlink()
    folder = prepare.prepare_imagenet2012(tmp_path, tmp_path / "out", partial=True)
    assert list(tfds.builder_from_directory(str(folder)).info.splits) == ["validation"]
    source = open_source("imagenet2012", "validation", str(tmp_path / "out"))
    expected = archives.validation_synsets()
    found = {
        example["file_name"].decode(): source.class_names[example["label"]]
        for example in source.examples
    }
    assert found == {
        f"ILSVRC2012_val_{number:08d}.JPEG": expected[number - 1] for number in numbers
    }


class Dying:
    """Stands in for functions of the operating system, and dies at their n-th call in all."""

    def __init__(self, last_call):
        self.calls, self.last_call = 0, last_call

    def __call__(self, function):
        def call(*arguments, **keywords):
            self.calls += 1
            if self.calls == self.last_call:
                raise Killed
            return function(*arguments, **keywords)

        return call


def test_goes_on_byte_for_byte_from_wherever_it_was_killed(
    source, built, tmp_path, monkeypatch, small_shards
):
    for last_call in range(1, 1000):
        data_dir = tmp_path / str(last_call)
        final = data_dir / "imagenet2012" / "5.1.0"
        dying = Dying(last_call)
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            for name in ("fsync", "replace", "rename", "pread"):
                patch.setattr(os, name, dying(getattr(os, name)))
            patch.setattr(shutil, "rmtree", dying(shutil.rmtree))
            prepare.prepare_imagenet2012(source, data_dir, partial=True)
        if dying.calls < last_call:
            break  # nothing is left to die at
        if not final.exists():
            with pytest.raises(UserError):
                open_source("imagenet2012", "train", str(data_dir))
        before = shards_of(final if final.exists() else final.parent / "5.1.0.incomplete" / "data")
        prepare.prepare_imagenet2012(source, data_dir, partial=True)
        after = shards_of(final)
        for name, stat in before.items():
            assert (after[name].st_ino, after[name].st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
        assert contents(data_dir) == contents(built)
    assert last_call > 50


def test_goes_on_after_kill_9(source, built, tmp_path, small_shards):
    program = f"""
import os, signal
from tensorflow_datasets.core.utils import shard_utils
from shunted_jax.commands import prepare
from shunted_jax.data.builders import unfinished
shard_utils.ShardConfig.min_shard_size = 2200
write_shard, written = unfinished.Unfinished.write_shard, []
def killing(self, name, records, count):
    def some():
        yield next(records)
        os.kill(os.getpid(), signal.SIGKILL)
    write_shard(self, name, some() if len(written) == 3 else records, count)
    written.append(name)
unfinished.Unfinished.write_shard = killing
prepare.prepare_imagenet2012({str(source)!r}, {str(tmp_path)!r}, partial=True)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    work = tmp_path / "imagenet2012" / "5.1.0.incomplete"
    assert sorted(shards_of(work / "data")) == [
        f"imagenet2012-train.array_record-0000{shard}-of-00004" for shard in range(3)
    ]
    assert (work / "shard.partial").exists()
    prepare.prepare_imagenet2012(source, tmp_path, partial=True)
    assert contents(tmp_path) == contents(built)


def test_starts_over_when_the_archives_have_changed(tmp_path, monkeypatch, small_shards):
    source = archives.make_imagenet_archives(tmp_path / "source", train_per_class=3)
    write_shard = unfinished.Unfinished.write_shard

    def interrupted(self, name, records, count):
        if "validation" in name:
            raise KeyboardInterrupt
        write_shard(self, name, records, count)

    arguments = ["imagenet2012", "--source", str(source), "--data-dir", str(tmp_path), "--partial"]
    with monkeypatch.context() as patch:
        patch.setattr(unfinished.Unfinished, "write_shard", interrupted)
        assert prepare.main(arguments) == 130
    assert shards_of(tmp_path / "imagenet2012" / "5.1.0.incomplete" / "data")
    archives.make_imagenet_archives(source, train_per_class=4)
    assert prepare.main(arguments) == 0
    assert len(open_source("imagenet2012", "train", str(tmp_path))) == 12


def test_finished_data_set_is_left_alone(built, tmp_path, capsys):
    before = contents(built)
    arguments = ["imagenet2012", "--source", str(tmp_path), "--data-dir", str(built)]
    assert prepare.main([*arguments, "--partial"]) == 0
    assert "imagenet2012: 12 train, 5 validation images in" in capsys.readouterr().out
    assert prepare.main(arguments) == 2
    message = capsys.readouterr().err
    assert "was built with --partial: it has 12 train, 5 validation images, and the" in message
    assert contents(built) == before


def refused(source, data_dir, capsys, *options):
    """Returns the one line that the command leaves with; the data set must not be there then."""
    arguments = ["--source", str(source), "--data-dir", str(data_dir), *options]
    assert prepare.main(["imagenet2012", *arguments]) == 2
    assert not (data_dir / "imagenet2012" / "5.1.0" / "dataset_info.json").exists()
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_incomplete_archives_are_refused(source, tmp_path, capsys):
    message = refused(source, tmp_path, capsys)
    assert "ILSVRC2012_img_train.tar holds 12 images, and the complete one has 1,281,167" in message
    assert "download it again, or pass --partial" in message
    # Of an archive without images nothing can be built.
    archives.make_imagenet_archives(tmp_path / "none", classes=())
    message = refused(tmp_path / "none", tmp_path, capsys, "--partial")
    assert "ILSVRC2012_img_train.tar holds 0 images, and the complete one has" in message


def test_missing_archives_are_named(source, tmp_path, capsys):
    only = tmp_path / "only"
    only.mkdir()
    for options in ((), ("--partial",)):
        message = refused(only, tmp_path, capsys, *options)
        assert f"no {archives.TRAIN} and no {archives.VALIDATION}: download them" in message
        assert "pass --partial" not in message
    shutil.copy(source / archives.TRAIN, only)
    message = refused(only, tmp_path, capsys)
    assert f"{only} has no {archives.VALIDATION}" in message
    assert "pass --partial" in message
    assert not (tmp_path / "imagenet2012").exists()


@pytest.mark.parametrize("name", [archives.TRAIN, archives.VALIDATION])
@pytest.mark.parametrize("keep", [0, 100, 600, 1700, 0.3, 0.6])
def test_damaged_archives_are_named(source, tmp_path, capsys, name, keep):
    damaged = shutil.copytree(source, tmp_path / "source") / name
    size = damaged.stat().st_size
    os.truncate(damaged, keep if isinstance(keep, int) else int(keep * size))
    message = refused(tmp_path / "source", tmp_path, capsys, "--partial")
    assert f"{damaged} is damaged, incomplete or no tar archive" in message
    damaged.write_bytes(b"<html>log in first</html>" * 1000)
    message = refused(tmp_path / "source", tmp_path, capsys, "--partial")
    assert f"{damaged} is damaged, incomplete or no tar archive" in message


@pytest.mark.parametrize(
    ("classes", "val", "message"),
    [
        (["n99999999"], 1, "holds 'n99999999.tar', and ILSVRC2012's own archive has one archive"),
        (["n01440764", "n01440764"], 1, "_0.JPEG is twice in the archive of the split train"),
        (["n01440764"], [50_001], "holds 'ILSVRC2012_val_00050001.JPEG', and"),
        (["n01440764"], [0], "holds 'ILSVRC2012_val_00000000.JPEG', and"),
    ],
)
def test_other_layouts_are_refused(tmp_path, capsys, classes, val, message):
    source = archives.make_imagenet_archives(
        tmp_path / "source", classes=classes, val=val, train_per_class=1
    )
    assert message in refused(source, tmp_path, capsys, "--partial")


def test_image_that_is_to_be_encoded_anew_and_cannot_be(tmp_path, capsys):
    source = archives.make_imagenet_archives(tmp_path / "source", classes=["n02105855"])
    content = (source / archives.TRAIN).read_bytes()
    (source / archives.TRAIN).write_bytes(content.replace(b"PNG", b"GNP"))
    message = refused(source, tmp_path, capsys, "--partial")
    assert f"its image {archives.PNG} cannot be decoded: download the archive again" in message


def test_image_of_another_class_is_refused(source, tmp_path, capsys):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        archives._add(archive, "n02105855_1.JPEG", b"")
    with tarfile.open(tmp_path / archives.TRAIN, "w") as archive:
        archives._add(archive, "n01440764.tar", inner.getvalue())
    message = refused(tmp_path, tmp_path, capsys, "--partial")
    assert (
        "'n01440764.tar/n02105855_1.JPEG', and ILSVRC2012's own archive has n01440764_" in message
    )


def test_two_calls_do_not_meet(source, tmp_path, capsys):
    work = tmp_path / "imagenet2012" / "5.1.0.incomplete"
    work.mkdir(parents=True)
    with open(work / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        message = refused(source, tmp_path, capsys, "--partial")
    assert "5.1.0 is being made by another process: wait for it to end" in message
    assert (
        prepare.main(
            ["imagenet2012", "--partial", "--source", str(source), "--data-dir", str(tmp_path)]
        )
        == 0
    )


def test_full_disks_are_refused_at_the_start(source, tmp_path, capsys, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(20_000))
    message = refused(source, tmp_path, capsys, "--partial")
    assert "has 0.0 GB of free space, and 0.0 GB are needed: free some, or choose" in message


def test_writing_that_fails_says_so_and_goes_on(source, built, tmp_path, capsys, small_shards):
    with largest_file(50_000):
        message = refused(source, tmp_path, capsys, "--partial")
    assert "5.1.0 cannot be made: " in message
    assert "File too large" in message
    assert "the same command goes on" in message
    prepare.prepare_imagenet2012(source, tmp_path, partial=True)
    assert contents(tmp_path) == contents(built)


def test_read_only_disk_is_named(source, tmp_path, capsys, monkeypatch):
    mkdir = os.mkdir

    def read_only(path, *arguments):
        if tmp_path in Path(path).parents:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))
        mkdir(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", read_only)
        message = refused(source, tmp_path, capsys, "--partial")
    assert f"cannot be made: [Errno 30] Read-only file system: '{tmp_path}'" in message


def test_data_set_of_another_format_is_in_the_way(source, tmp_path, capsys):
    folder = tmp_path / "imagenet2012" / "5.1.0"
    folder.mkdir(parents=True)
    assert "is no data set (no dataset_info.json)" in refused(source, tmp_path, capsys)
    other = shutil.copytree(tmp_path, tmp_path / "other") / "imagenet2012" / "5.1.0"
    (other / "dataset_info.json").write_text('{"name": "imagenet2012", "version": "5.1.0"}')
    with pytest.raises(UserError, match="is there already, as tfrecord and not as array_record"):
        prepare.prepare_imagenet2012(source, tmp_path / "other")


@pytest.mark.parametrize("interval", [0, 30])
def test_progress_without_a_terminal_is_lines(caplog, monkeypatch, interval):
    caplog.set_level(logging.INFO, logger="shunted_jax")
    monkeypatch.setattr(counter, "_SECONDS_BETWEEN_LINES", interval)
    now = [100.0]
    monkeypatch.setattr(counter.time, "perf_counter", lambda: now[0])
    with counter.Counter("writing train", total=2000, done=1000) as shown:
        for _ in range(2):
            now[0] += 5
            shown.update(500)
    first, last = (
        "writing train: 1,500 of 2,000 images, 100 images/s, 0:00:05 left",
        "writing train: 2,000 of 2,000 images, 100 images/s, 0:00:00 left",
    )
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ([last] if interval else [first, last])


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with counter.Counter("writing train", total=2000, done=1000) as shown:
            shown.update(500)
            shown._bar.refresh()
        terminal.flush()
        text = ""
        # The kernel passes on what was written in parts, and when it likes.
        while "75%" not in text or not text.rstrip().endswith("left"):
            assert select.select([ours], [], [], 10)[0], text
            text += os.read(ours, 10_000).decode()
    os.close(ours)
    assert "writing train  75% |" in text
    assert "1500 of 2000 images, " in text


def test_real_sizes_make_the_shards_that_are_published():
    # 1,024 and 64 of tfds.org's imagenet2012, of images of 110 kB in the mean.
    for count, shards in ((1_281_167, 1024), (50_000, 64)):
        assert shard_utils.ShardConfig().get_number_shards(count * 115_000, count) == shards


@pytest.mark.parametrize("image_bytes", [0, 100, 127, 128, 16_300, 16_384, 2_097_000, 2_097_152])
@pytest.mark.parametrize("label", [0, 127, 128, 999])
def test_record_sizes_are_known_beforehand(image_bytes, label):
    features = stock.Builder(data_dir="nowhere").info.features
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    # About the lengths where one more byte is needed to say them, at any depth.
    for size in range(max(0, image_bytes - 30), image_bytes + 2, 5):
        example = {"image": bytes(size), "label": label, "file_name": "n01440764_18.JPEG"}
        record = serializer.serialize_example(features.encode_example(example))
        names = np.array([example["file_name"]], "S36")
        laid_out = layout.lay_out("train", names, np.array([label]), np.array([size]))
        assert laid_out.num_bytes == len(record)
