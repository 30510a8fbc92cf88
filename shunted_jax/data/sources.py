"""Where examples come from: random access to encoded images and their labels."""

import dataclasses
import logging
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from shunted_jax.adapters.tfds import may_be_name
from shunted_jax.config import DataConfig
from shunted_jax.data import tables
from shunted_jax.data.fingerprint import Fingerprint, fingerprint
from shunted_jax.data.folders import FolderExamples
from shunted_jax.data.listing import Listing
from shunted_jax.data.prepared import open_prepared
from shunted_jax.data.splits import NoSplitError, Part, info_of, parts_of
from shunted_jax.data.trees import list_tree
from shunted_jax.errors import UserError, some
from shunted_jax.names import readable
from shunted_jax.resources import look_into, refusal
from shunted_jax.storage import as_path, as_text, in_bucket

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """A split of a data set.

    Attributes:
        examples: random access to {"image": encoded bytes, "label": int}, with a "file_name" where
            there is one; it can be pickled. If it reads files that may be bad, it has a method
            `file_name`, which names them unread.
        class_names: what each label stands for.
        name: what to call it in messages, such as "imagenet2012, train".
        parts: which examples of the data set's splits they are; empty where that is not known.
        files: to know the files again, wherever they lie; None where there are none.
        remarks: what to know of it besides, such as what was left out.
    """

    examples: Sequence[dict[str, Any]]
    class_names: tuple[str, ...]
    name: str = "the data set"
    parts: tuple[Part, ...] = ()
    files: Fingerprint | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    def describe(self, index: int) -> str:
        """Returns how to find an example: its number, and its file's name if it has one."""
        unread = getattr(self.examples, "file_name", None)
        file_name = unread(index) if unread else self.examples[index].get("file_name")
        if isinstance(file_name, bytes):
            file_name = file_name.decode(errors="replace")
        return readable(
            f"example {index} of {self.name}" + (f" ({file_name})" if file_name else "")
        )

    def in_a_line(self) -> str:
        """Returns what a person wants to know of it before anything is done with it."""
        counts = f"{self.name}: {len(self):,} images, {len(self.class_names):,} classes"
        return "; ".join([counts, *self.remarks])


def open_split(data: DataConfig, field: str) -> Source:
    """Opens a split of the configured data set, and says in the log what it holds.

    Args:
        data: of the run's configuration.
        field: which of its fields names the split: "train_split" or "eval_split".

    Raises:
        UserError: as `open_source` does.
    """
    try:
        source = open_source(data.dataset, getattr(data, field), data.data_dir, data)
    except NoSplitError as error:
        choice = f"={shlex.quote(error.instead)}" if error.instead else " names one of them"
        raise UserError(f"{error}: --config.data.{field}{choice}") from None
    logger.info("%s", source.in_a_line())
    return source


def open_source(
    dataset: str, split: str, data_dir: str | None = None, options: DataConfig | None = None
) -> Source:
    """Opens a data set of images with class labels.

    Args:
        dataset: a prepared tensorflow-datasets data set, by name ("digits", "cifar100",
            "imagenet2012:5.1.0") or by its own folder; or a folder tree of image files,
            SPLIT/CLASS/FILE or CLASS/FILE; or a table of labels, "labels.csv". Folders are told
            from names by a slash: "./flowers".
        split: a split or a part of one, such as "train" or "train[:99%]".
        data_dir: where tensorflow-datasets keeps its data sets; None takes its default.
        options: for trees and tables, whose fields say how they are read; None: as by default.

    Returns:
        The split, its images still encoded.

    Raises:
        UserError: the data set is not there in a random-access format, has no such split, does not
            hold images with class labels, or holds them in a way that is not clear.
    """
    try:
        data_dir = as_text(data_dir)
        if data_dir is not None and not in_bucket(data_dir):
            look_into(data_dir)
        return _open(dataset, split, data_dir, options or DataConfig())
    except OSError as error:
        if (refused := refusal(error)) is None:
            raise
        raise UserError(
            f"config.data.dataset is {dataset!r}, and cannot be read: {refused}"
        ) from error
    except ImportError as error:  # what reads a bucket's folders is not among the requirements
        raise UserError(f"{dataset!r} in {data_dir} needs another package: {error}") from error


def _open(dataset: str, split: str, data_dir: str | None, options: DataConfig) -> Source:
    if dataset.lower().endswith(tables.SUFFIXES) and not as_path(dataset).is_dir():
        return _of_files(tables.list_table(as_path(dataset), split, options), split, dataset)
    folder = as_path(dataset) if "/" in dataset else None
    if folder is not None and not folder.is_dir():
        if dataset.startswith((".", "~", "/")) or not may_be_name(dataset):
            raise UserError(f"config.data.dataset is {dataset!r}, and there is no such folder")
        folder = None  # a name, such as "downsampled_imagenet/32x32"
    if folder is not None and not (folder / "dataset_info.json").exists():
        listing = list_tree(folder, split, options.allow_empty_classes)
        return _of_files(listing, split, dataset)
    prepared = open_prepared(dataset, folder, split, data_dir)
    return Source(
        prepared.examples,
        prepared.class_names,
        f"{dataset}, {split}",
        parts=prepared.parts,
        files=prepared.files,
    )


def _of_files(listing: Listing, split: str, where: str) -> Source:
    infos = {name: info_of(name, len(rows)) for name, rows in listing.splits.items()}
    parts = parts_of(split, infos, where)
    rows = [row for part in parts for row in listing.splits[part.split][part.start : part.stop]]
    labels, names, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    return Source(
        FolderExamples(listing.folder, names, labels),
        listing.class_names,
        f"{where}, {split}",
        parts=parts,
        files=fingerprint(names, sizes, labels),
        remarks=tuple(_remarks(listing, labels)),
    )


def _remarks(listing: Listing, labels: Sequence[int]) -> Iterator[str]:
    yield from listing.remarks
    absent = np.setdiff1d(np.arange(len(listing.class_names)), labels)
    if absent.size:
        yield f"no image of {some([repr(listing.class_names[at]) for at in absent], most=5)}"
