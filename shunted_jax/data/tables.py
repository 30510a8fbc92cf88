"""A table of labels: a CSV file with a row for each image, as competitions and spreadsheets have.

    image,label,split
    cats/1.jpg,cat,train
    2,dog,val

Columns may be named otherwise and stand in any order among others. The column of splits may be
missing: all rows are the split `train` then. Commas, semicolons and tabs separate.
"""

import csv
import io
import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from etils import epath

from shunted_jax.config import DataConfig
from shunted_jax.data.listing import Listing, as_seen, in_order_of_hash
from shunted_jax.data.named_files import find_files
from shunted_jax.data.splits import ONE_SPLIT, check_names, names_in, nearest_split
from shunted_jax.errors import UserError
from shunted_jax.storage import as_path

SUFFIXES = (".csv", ".tsv")
_SEPARATORS = (",", ";", "\t")
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


class _Row(NamedTuple):
    line: int
    image: str
    label: str
    split: str


def list_table(path: epath.Path, split: str, data: DataConfig) -> Listing:
    """Lists the images of the splits that an expression names.

    All splits share one list of classes: the labels in their order, numbers as numbers.

    Args:
        path: of the table.
        split: a split or parts of several, such as "train[:90%]".
        data: the columns' names, and the folder that images are named from.

    Raises:
        UserError: the table cannot be read, a row has no label or another one than before, there
            is no such split, or an image is not there or could be either of two files.
    """
    rows, doubled = _each_once(path, _read(path, data))
    there = sorted({row.split for row in rows})
    check_names(split, there, os.fspath(path))
    names = there if "all" in names_in(split) else list(dict.fromkeys(names_in(split)))
    asked = [row for row in rows if row.split in names]
    if empty := [row for row in asked if not row.label]:
        raise UserError(
            f"line {empty[0].line} of {path} has no label for {empty[0].image!r}"
            f"{_and_more(len(empty))}: fill it in, or take the row away"
        )
    classes = _in_order({row.label for row in rows if row.label})
    _check_trained(path, rows, nearest_split("train", there), data.allow_empty_classes)
    folder = path.parent if data.image_dir is None else as_path(data.image_dir)
    if not folder.is_dir():
        raise UserError(f"config.data.image_dir is {data.image_dir!r}, and there is no such folder")
    files = find_files(folder, [row.image for row in asked], [row.line for row in asked], path)
    label_of = {name: label for label, name in enumerate(classes)}
    splits = {name: [] for name in names}
    for row, (file, size) in zip(asked, files, strict=True):
        splits[row.split].append((label_of[row.label], file, size))
    ordered = {name: in_order_of_hash(listed) for name, listed in splits.items()}
    remarks = (f"left out: {doubled:,} rows that say the same as another",) if doubled else ()
    return Listing(folder, tuple(classes), ordered, remarks)


def _read(path: epath.Path, data: DataConfig) -> list[_Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Excel writes the mark that "sig" stands for
    except FileNotFoundError:
        raise UserError(f"config.data.dataset is '{path}', and there is no such file") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"{path} cannot be read: {error}; a table is text in UTF-8, such as spreadsheets save "
            "as CSV"
        ) from None
    separator, header = _header(path, text, data)
    places = [header.index(name) for name in (data.image_column, data.label_column)]
    split_place = header.index(data.split_column) if data.split_column in header else None
    rows = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        next(reader)
        for values in reader:
            if not any(values):
                continue  # an empty line, as spreadsheets leave at the end
            if len(values) != len(header):
                raise UserError(
                    f"line {reader.line_num} of {path} has {len(values)} values, and the first "
                    f"{len(header)}: values that hold a {separator!r} belong into double quotes"
                )
            image, label = (values[place].strip() for place in places)
            label = as_seen(label)
            split = ONE_SPLIT if split_place is None else values[split_place].strip()
            if not image or not split:
                raise UserError(f"line {reader.line_num} of {path} names no image or no split")
            rows.append(_Row(reader.line_num, posixpath.normpath(image), label, split))
    except csv.Error as error:
        raise UserError(f"line {reader.line_num} of {path} cannot be read: {error}") from None
    if not rows:
        raise UserError(f"{path} has no rows below its first line, which names the columns")
    return rows


def _header(path: epath.Path, text: str, data: DataConfig) -> tuple[str, list[str]]:
    """Returns the separator and the names of the columns, which are known by each other."""
    wanted = (data.image_column, data.label_column)
    headers = []
    for separator in _SEPARATORS:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        headers.append([name.strip() for name in names])
        if all(name in headers[-1] for name in wanted):
            return separator, headers[-1]
    there = max(headers, key=len)
    raise UserError(
        f"the first line of {path} names the columns {', '.join(map(repr, there)) or 'nothing'}, "
        f"and not {' and '.join(repr(name) for name in wanted if name not in there)}: say which "
        f"they are, as in --config.data.image_column={there[0] if there else 'image'} "
        f"--config.data.label_column={there[-1] if there else 'label'}"
    )


def _each_once(path: epath.Path, rows: Iterable[_Row]) -> tuple[list[_Row], int]:
    """Returns the rows without repetitions, and how many were left out."""
    first, doubled = {}, 0
    for row in rows:
        before = first.setdefault(row.image, row)
        if before is row:
            continue
        for name in ("label", "split"):
            was, now = getattr(before, name), getattr(row, name)
            if was != now:
                raise UserError(
                    f"{path} names {row.image!r} in line {before.line} with the {name} {was!r}, "
                    f"and in line {row.line} with {now!r}: an image has one of them"
                )
        doubled += 1
    return list(first.values()), doubled


def _check_trained(
    path: epath.Path, rows: Sequence[_Row], reference: str | None, allow_empty_classes: bool
) -> None:
    if reference is None or allow_empty_classes:
        return
    known = {row.label for row in rows if row.split == reference}
    for row in rows:
        if row.label and row.label not in known:
            raise UserError(
                f"line {row.line} of {path} has the label {row.label!r}, which no row of the split "
                f"{reference!r} has: take it away, or keep a class that nothing is learned of: "
                "--config.data.allow_empty_classes=True"
            )


def _in_order(labels: set[str]) -> list[str]:
    if all(map(_NUMBER.fullmatch, labels)):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _and_more(count: int) -> str:
    return f", nor have {count - 1:,} more" if count > 1 else ""
