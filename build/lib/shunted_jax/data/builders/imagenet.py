"""ImageNet as tensorflow-datasets' own `imagenet2012`, made without TensorFlow and in stages.

Names, version, features, examples, their order and the files are those of the stock builder. Two
things differ:

- The order of the fields in a record, which Protocol Buffers leave open and the stock builder takes
  from the chance of a process, is sorted: otherwise no two builds had the same bytes.
- The 23 images that are re-encoded, for not being RGB JPEGs, go through Pillow's encoder.
"""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
import tensorflow_datasets as tfds

from shunted_jax.adapters.tfds import ImageNet
from shunted_jax.data.builders import ilsvrc_archives, unfinished
from shunted_jax.data.builders.counter import Counter
from shunted_jax.data.builders.durable import replacing
from shunted_jax.data.builders.ilsvrc_records import Records
from shunted_jax.data.builders.layout import lay_out
from shunted_jax.errors import UserError

ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
COUNTS = {"train": 1_281_167, "validation": 50_000}


def build(
    source: str | os.PathLike, data_dir: str | os.PathLike | None, *, partial: bool = False
) -> Path:
    """Builds `imagenet2012`, unless it is there already.

    Args:
        source: the folder of the archives.
        data_dir: where tensorflow-datasets keeps its data sets; None takes its default.
        partial: take archives of fewer images, and a missing archive for a missing split.

    Returns:
        The data set's own folder.

    Raises:
        UserError: archives are missing, damaged or incomplete, or the disk is full or fails.
    """
    builder = ImageNet(data_dir=data_dir)
    final = Path(builder.data_dir)
    if not unfinished.is_there(final):
        paths = _find_archives(Path(source).expanduser(), partial)
        unfinished.finish(final, functools.partial(_make, builder, paths, partial))
    elif not partial:
        _check_complete(builder)
    return final


def _check_complete(builder: ImageNet) -> None:
    found = {name: split.num_examples for name, split in builder.info.splits.items()}
    if any(found.get(split) != count for split, count in COUNTS.items()):
        raise UserError(
            f"{builder.data_dir} was built with --partial: it has {_counts(found)} images, and the "
            f"complete data set {_counts(COUNTS)}; remove it to build that one"
        )


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in splits.items())


def _find_archives(source: Path, partial: bool) -> dict[str, Path]:
    paths = {split: source / name for split, name in ARCHIVES.items()}
    there = {split: path for split, path in paths.items() if path.is_file()}
    missing = [path.name for split, path in paths.items() if split not in there]
    if missing and not (there and partial):
        remedy = "" if not there else ", or pass --partial to build only what is there"
        raise UserError(
            f"{source} has no {' and no '.join(missing)}: download them from "
            f"https://image-net.org/download-images into it{remedy}"
        )
    return there


def _make(
    builder: ImageNet, paths: dict[str, Path], partial: bool, work: unfinished.Unfinished
) -> None:
    stats = {path.name: path.stat() for path in paths.values()}
    work.keep_only_if(
        {
            "archives": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()},
            "tensorflow-datasets": tfds.__version__,
            "pillow": PIL.__version__,
        }
    )
    # Images are too random to be compressed: the records are as large as the archives.
    work.check_space(sum(stat.st_size for stat in stats.values()))
    builder.info.set_file_format("array_record", override=True)
    # All are looked through before anything is written, which takes the longest.
    entries = {split: _index(builder, split, path, work) for split, path in paths.items()}
    for split, path in paths.items():
        count = len(entries[split])
        if count != COUNTS[split] and not (partial and count):
            raise UserError(
                f"{path} holds {count:,} images, and the complete one has {COUNTS[split]:,}: "
                "download it again, or pass --partial to build from what it has"
            )
    splits = []
    for split, path in paths.items():
        with open(path, "rb") as archive:
            splits.append(_make_split(builder, split, archive, entries[split], work))
    builder.info.set_splits(tfds.core.splits.SplitDict(splits))
    builder.info.download_size = 0
    builder.info.write_to_directory(work.data)


def _index(builder: ImageNet, split: str, path: Path, work: unfinished.Unfinished) -> np.ndarray:
    # Reading 1.3 million headers takes minutes, hours where a disk has to turn for each.
    saved = work.folder / f"{split}.npy"
    if not saved.exists():
        classes = builder.info.features["label"]
        with Counter(f"looking through {path.name}", COUNTS[split]) as counter:
            if split == "train":
                entries = ilsvrc_archives.index_train(path, classes.names, counter.update)
            else:
                labels = [classes.str2int(synset) for synset in _validation_synsets()]
                entries = ilsvrc_archives.index_validation(path, labels, counter.update)
        with replacing(saved) as partial, open(partial, "wb") as file:
            np.save(file, entries)
    return np.load(saved)


def _validation_synsets() -> list[str]:
    path = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")
    return path.read_text().split()


def _make_split(
    builder: ImageNet,
    split: str,
    archive: BinaryIO,
    entries: np.ndarray,
    work: unfinished.Unfinished,
) -> tfds.core.SplitInfo:
    records = Records(builder.info.features, archive, entries)
    layout = lay_out(split, entries["name"], entries["label"], records.image_bytes)
    template = tfds.core.ShardedFileTemplate(
        data_dir=work.data, dataset_name=builder.name, split=split, filetype_suffix="array_record"
    )
    shards = dict(zip(template.sharded_filenames(len(layout.ends)), layout.shards, strict=True))

    def checked(shard: np.ndarray) -> Iterator[bytes]:
        for record, size in zip(records.of(shard), layout.record_bytes[shard], strict=True):
            assert len(record) == size, f"laid out as {size} bytes, and has {len(record)}"
            yield record
            counter.update(1)

    done = sum(len(shard) for name, shard in shards.items() if work.has(name))
    with Counter(f"writing {split}", len(entries), done) as counter:
        for name, shard in shards.items():
            if not work.has(name):
                work.write_shard(name, checked(shard), len(shard))
    return tfds.core.SplitInfo(
        name=split,
        shard_lengths=[len(shard) for shard in shards.values()],
        num_bytes=layout.num_bytes,
        filename_template=template,
    )
