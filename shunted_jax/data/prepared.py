"""Data sets that tensorflow-datasets prepared, and what to say where one is not there, or half."""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from shunted_jax.adapters.tfds import may_be_name
from shunted_jax.data.fingerprint import Fingerprint, fingerprint
from shunted_jax.data.splits import Part, check_names, parts_of
from shunted_jax.errors import UserError
from shunted_jax.storage import as_path, size_of

_PREPARE = "python -m shunted_jax.commands.prepare"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Parts of a prepared data set.

    Attributes:
        examples: random access to {"image": encoded bytes, "label": int}.
        class_names: what each label stands for.
        parts: which examples of which splits they are.
        files: of the files that hold those splits.
    """

    examples: Sequence[dict[str, Any]]
    class_names: tuple[str, ...]
    parts: tuple[Part, ...]
    files: Fingerprint


def open_prepared(
    dataset: str, folder: epath.Path | None, split: str, data_dir: str | None
) -> Prepared:
    """Opens a data set by name, or by its own folder.

    Args:
        dataset: what it is called, for messages.
        folder: its own folder; None to look for its name.
        split: a split or parts of several.
        data_dir: where tensorflow-datasets keeps its data sets; None takes its default.

    Raises:
        UserError: it is not there in full and in a random-access format, has no such split, or does
            not hold images with class labels.
    """
    builder = _builder(dataset, folder, data_dir)
    infos, where = builder.info.splits, f"the data set {dataset!r}"
    check_names(split, infos, where)
    parts = parts_of(split, infos, where)
    try:
        # Decoding is ours.
        examples = builder.as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )
    except NotImplementedError:
        raise UserError(
            f"the data set {dataset!r} is not in a format with random access; copy it into one: "
            f"{_PREPARE} from-tfrecord --source {shlex.quote(os.fspath(builder.data_path))} "
            "--data-dir DIR"
        ) from None
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the data set {dataset!r} in {builder.data_path} cannot be read: {error}"
        ) from error
    features = builder.info.features
    is_labelled = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
    if "image" not in features or not is_labelled:
        raise UserError(
            f"the data set {dataset!r} has the features {sorted(features)}, and training wants an "
            "'image' and a 'label' of classes"
        )
    names = dict.fromkeys(part.split for part in parts)
    paths = [path for name in names for path in map(epath.Path, infos[name].filepaths)]
    files = _look_at(paths, dataset)
    try:
        next(iter(examples), None)
    except RuntimeError as error:  # of ArrayRecord: cut off, or no such file at all
        raise UserError(
            f"the data set {dataset!r} in {builder.data_path} cannot be read: {error}; copy or "
            "prepare it again"
        ) from error
    return Prepared(examples, tuple(features["label"].names), parts, files)


def _builder(
    dataset: str, folder: epath.Path | None, data_dir: str | None
) -> tfds.core.DatasetBuilder:
    if folder is None and not may_be_name(dataset):
        raise _not_prepared(dataset, data_dir)
    try:
        if folder is not None:
            return tfds.builder_from_directory(folder)
        builder = tfds.builder(dataset, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, AssertionError, FileNotFoundError):
        raise _not_prepared(dataset, data_dir) from None
    except (KeyError, ValueError) as error:
        where = data_dir or "tensorflow-datasets' default folder"
        raise UserError(f"the data set {dataset!r} in {where} cannot be read: {error}") from error
    # tensorflow-datasets knows what it could prepare, too.
    if not (builder.data_path / "dataset_info.json").exists() or not builder.info.splits:
        raise _not_prepared(dataset, data_dir)
    return builder


def _look_at(paths: Sequence[epath.Path], dataset: str) -> Fingerprint:
    sizes, missing = [], []
    for path in paths:
        try:
            sizes.append(size_of(path))
        except FileNotFoundError:
            missing.append(path)
    if missing:
        raise UserError(
            f"the data set {dataset!r} lacks {len(missing):,} of its {len(paths):,} files, such as "
            f"{missing[0]}: copy or prepare it again"
        )
    return fingerprint([path.name for path in paths], sizes)


def _not_prepared(dataset: str, data_dir: str | None) -> UserError:
    where = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    name, _, _ = dataset.partition(":")
    into = data_dir or "data"
    makes = {
        "digits": f"{_PREPARE} digits --data-dir {shlex.quote(into)}",
        "imagenet2012": f"{_PREPARE} imagenet2012 --source FOLDER_OF_ITS_ARCHIVES --data-dir "
        + shlex.quote(into),
    }
    command = makes.get(name, f"{_PREPARE} --help says of what")
    there = _there(as_path(where) / name)
    return UserError(
        f"no data set {dataset!r} is prepared as ArrayRecord in {where}{there}: prepare it first "
        f"({command}) and pass --config.data.data_dir={shlex.quote(into)}, name with that field "
        "where it is, or name a folder of images: "
        f"--config.data.dataset={shlex.quote(f'./{name}')}"
    )


def _there(folder: epath.Path) -> str:
    """Says which other versions of a data set there are, and what was not finished."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [
        path.name + " (unfinished)" * (not (path / "dataset_info.json").exists()) for path in paths
    ]
    return f", where there is {', '.join(names[:5])}" if names else ""
