"""From the names of images, as a table has them, to files: each folder is listed once."""

import collections
import os
import posixpath
import shlex
from collections.abc import Sequence

from etils import epath

from shunted_jax.data.scanning import entries, folders_in, is_image, size_of
from shunted_jax.errors import UserError
from shunted_jax.storage import as_path


def find_files(
    folder: epath.Path, names: Sequence[str], lines: Sequence[int], table: epath.Path
) -> list[tuple[str, int]]:
    """Returns the path from `folder` and the size of the file that each name stands for.

    A name may lack its extension, where one image alone has the rest of it.

    Args:
        folder: what the names start from.
        names: paths of files.
        lines: where each name stands in the table, for messages.
        table: the table, likewise.

    Raises:
        UserError: a file is not there, could be either of two, or has two of the names.
    """
    found, alike = _look_up(folder, names)
    missing = [index for index, file in enumerate(found) if file is None]
    for index in missing:
        if len(alike[index]) > 1:
            raise UserError(
                f"line {lines[index]} of {table} names {names[index]!r}, which could be "
                f"{' or '.join(sorted(alike[index]))}: write the extension, too"
            )
    if missing:
        name = names[missing[0]]
        folders = [f"{folder}/{inner}" for inner in folders_in(folder)]
        there = next((f for f in folders if any(_look_up(as_path(f), [name])[0])), None)
        remedy = shlex.quote(there) if there else "FOLDER, of which their names are parts"
        raise UserError(
            f"{len(missing):,} of {len(names):,} images that {table} names are not in {folder}, "
            f"such as {name!r} (line {lines[missing[0]]}): take their rows away, or say where they "
            f"are: --config.data.image_dir={remedy}"
        )
    first = {}
    for index, (file, _) in enumerate(found):
        before = first.setdefault(file, index)
        if before != index:
            raise UserError(
                f"lines {lines[before]} and {lines[index]} of {table} name the same file, {file}: "
                "take one of them away"
            )
    return found


def _look_up(
    folder: epath.Path, names: Sequence[str]
) -> tuple[list[tuple[str, int] | None], dict[int, list[str]]]:
    """Returns the file of each name, and the images that are called like it but for an extension.

    A single one of those is the file, where none has the whole name.
    """
    wanted = collections.defaultdict(dict)
    for index, name in enumerate(names):
        inner, _, file = name.rpartition("/")
        wanted[inner or ("/" if name.startswith("/") else "")][file] = index
    found = [None] * len(names)
    alike = collections.defaultdict(list)
    for inner, index_of in wanted.items():
        if not (folder / inner).is_dir():
            continue
        sizes = {}
        for entry in entries(folder / inner):
            if (index := index_of.get(entry.name)) is not None and not entry.is_dir():
                found[index] = (posixpath.join(inner, entry.name), size_of(entry))
            stem = os.path.splitext(entry.name)[0]
            if (index := index_of.get(stem)) is not None and is_image(entry.name):
                alike[index].append(entry.name)
                sizes[index] = size_of(entry)
        for index, size in sizes.items():
            if found[index] is None and len(alike[index]) == 1:
                found[index] = (posixpath.join(inner, alike[index][0]), size)
    return found, alike
