"""Where examples come from: random access to encoded images and their labels."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from shunted_jax.data.folders import FolderExamples
from shunted_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Source:
    """A split of a data set.

    Attributes:
        examples: random access to {"image": encoded bytes, "label": int}, with a "file_name" where
            there is one; it can be pickled.
        class_names: what each label stands for.
        name: what to call it in messages, such as "imagenet2012, train".
    """

    examples: Sequence[dict[str, Any]]
    class_names: tuple[str, ...]
    name: str = "the data set"

    def __len__(self) -> int:
        return len(self.examples)

    def describe(self, index: int) -> str:
        """Returns how to find an example: its number, and its file's name if it has one."""
        file_name = self.examples[index].get("file_name")
        if isinstance(file_name, bytes):
            file_name = file_name.decode(errors="replace")
        return f"example {index} of {self.name}" + (f" ({file_name})" if file_name else "")


def open_source(dataset: str, split: str, data_dir: str | None = None) -> Source:
    """Opens a data set of images with class labels.

    Args:
        dataset: a prepared tensorflow-datasets data set, by name ("digits", "cifar100",
            "imagenet2012:5.1.0") or by its own folder; or a folder tree of image files,
            SPLIT/CLASS/FILE. Folders are told from names by a slash: "./flowers".
        split: a split or a part of one, such as "train" or "train[:99%]".
        data_dir: where tensorflow-datasets keeps its data sets; None takes its default.

    Returns:
        The split, its images still encoded.

    Raises:
        UserError: the data set is not there in a random-access format, has no such split, or does
            not hold images with class labels.
    """
    try:
        return _open(dataset, split, data_dir)
    except ImportError as error:  # what reads a bucket's folders is not among the requirements
        raise UserError(f"{dataset!r} in {data_dir} needs another package: {error}") from error


def _open(dataset: str, split: str, data_dir: str | None) -> Source:
    folder = epath.Path(dataset).expanduser() if "/" in dataset else None
    if folder is not None and not folder.is_dir():
        if dataset.startswith((".", "~", "/")) or "://" in dataset:
            raise UserError(f"config.data.dataset is {dataset!r}, and there is no such folder")
        folder = None  # a name, such as "downsampled_imagenet/32x32"
    if folder is not None and not (folder / "dataset_info.json").exists():
        examples = FolderExamples(folder, split)
        return Source(examples, examples.class_names, f"{dataset}, {split}")
    examples = _open_prepared(dataset, folder, split, data_dir)
    features = examples.dataset_info.features
    is_labelled = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
    if "image" not in features or not is_labelled:
        raise UserError(
            f"the data set {dataset!r} has the features {sorted(features)}, and training wants an "
            "'image' and a 'label' of classes"
        )
    return Source(examples, tuple(features["label"].names), f"{dataset}, {split}")


def _open_prepared(
    dataset: str, folder: epath.Path | None, split: str, data_dir: str | None
) -> Sequence[dict[str, Any]]:
    # Decoding is ours; unless told not to, data_source would set out to download what is not there.
    decoders = {"image": tfds.decode.SkipDecoding()}
    where = data_dir or "tensorflow-datasets' default folder"
    try:
        if folder is not None:
            builder = tfds.builder_from_directory(folder)
            return builder.as_data_source(split=split, decoders=decoders)
        return tfds.data_source(
            dataset, split=split, data_dir=data_dir, download=False, decoders=decoders
        )
    except NotImplementedError:  # prepared in another format, or known and not prepared at all
        if folder is not None or tfds.builder(dataset, data_dir=data_dir).data_path.exists():
            raise UserError(
                f"the data set {dataset!r} is not in a format with random access; copy it into "
                "one: python -m shunted_jax.commands.prepare from-tfrecord --source "
                f"{folder or 'FOLDER'} --data-dir DIR"
            ) from None
        raise _not_prepared(dataset, where) from None
    except (tfds.core.DatasetNotFoundError, AssertionError, FileNotFoundError):
        raise _not_prepared(dataset, where) from None
    except (KeyError, ValueError) as error:
        raise UserError(f"the data set {dataset!r} in {where} cannot be read: {error}") from error


def _not_prepared(dataset: str, where: str) -> UserError:
    return UserError(
        f"no data set {dataset!r} is prepared as ArrayRecord in {where}: prepare it first (see "
        "python -m shunted_jax.commands.prepare --help), name the --config.data.data_dir where it "
        "is, "
        f"or name a folder of images: --config.data.dataset=./{dataset}"
    )
