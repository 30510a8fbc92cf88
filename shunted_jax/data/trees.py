"""A folder tree of image files, SPLIT/CLASS/FILE or CLASS/FILE: which files, with which labels.

A file may lie deeper, in subfolders of its class, such as a patient's. Nothing that is left out is
left out in silence: a `Listing` counts it.
"""

import os
import shlex

from etils import epath

from shunted_jax.data.listing import Listing, Row, as_seen, in_order_of_hash
from shunted_jax.data.scanning import LeftOut, folders_in, holds, images_below
from shunted_jax.data.splits import (
    ONE_SPLIT,
    check_names,
    is_called_like_a_split,
    names_in,
    nearest_split,
)
from shunted_jax.errors import UserError, some


def list_tree(folder: epath.Path, split: str, allow_empty_classes: bool = False) -> Listing:
    """Lists the splits of a tree that an expression names.

    Classes are numbered in the order of their names, those of the folder `train` if there is one,
    so that every split of a tree gives them the same numbers.

    Args:
        folder: of the tree.
        split: a split or parts of several, such as "train[:99%]".
        allow_empty_classes: whether a class's folder may hold no image.

    Raises:
        UserError: there is no such split, or it has no images, a class without any, or a class
            that `train` does not have.
    """
    folders = _split_folders(folder, split)
    names = names_in(split)
    names = list(folders) if "all" in names and "all" not in folders else list(dict.fromkeys(names))
    reference = folder / folders[nearest_split("train", folders) or names[0]]
    classes = tuple(sorted({as_seen(name) for name in folders_in(reference)}))
    left_out, splits = LeftOut(), {}
    for name in names:
        rows = _list_split(folder, folders[name], classes, reference, left_out, allow_empty_classes)
        splits[name] = in_order_of_hash(rows)
    deeper = sum(
        file.count("/") > 1 + bool(folders[name])
        for name, rows in splits.items()
        for _, file, _ in rows
    )
    remarks = [f"{deeper:,} lie in subfolders of their classes"] if deeper else []
    remarks += [f"left out: {left_out}"] if str(left_out) else []
    return Listing(folder, classes, splits, tuple(remarks))


def _split_folders(folder: epath.Path, split: str) -> dict[str, str]:
    """Returns the folder of each split, by its name: of a tree of classes alone, its own for all.

    Which of the two a tree is shows where the images lie: in the folders, or in folders of them.
    """
    names = folders_in(folder)
    if all(name in names for name in names_in(split)):
        return {name: name for name in names}
    found = {name: holds(folder / name) for name in names}
    of_classes = [name for name in names if "images" in found[name]]
    if not of_classes or any(is_called_like_a_split(n) and "folders" in found[n] for n in names):
        _explain_nesting(folder, split, names)
        check_names(split, names, os.fspath(folder))
        return {name: name for name in names}  # "all" of them
    deeper = [name for name in names if found[name] == {"folders"}]
    strange = [name for name in of_classes if is_called_like_a_split(name)]
    if deeper or strange:
        others = f"folders in {_first(deeper)}" if deeper else "in what may be classes"
        raise UserError(
            f"{folder} has images in {_first(strange or of_classes)} and {others}: lay them out as "
            "SPLIT/CLASS/FILE, or as CLASS/FILE with no class that is called like a split"
        )
    check_names(split, [ONE_SPLIT], f"{folder}, with the classes {_first(names)},")
    return {ONE_SPLIT: ""}


def _explain_nesting(folder: epath.Path, split: str, names: list[str]) -> None:
    wanted = names_in(split)[0]
    # A class may be called like the split that is wanted.
    inner = [folder / name for name in names if not is_called_like_a_split(name)]
    innermost = [path / name for path in inner for name in folders_in(path)]
    prepared = [path for path in inner + innermost if (path / "dataset_info.json").exists()]
    if instead := prepared or [path for path in innermost if path.name == wanted]:
        path = instead[0] if prepared else instead[0].parent
        there = os.fspath(path)
        there = there if "/" in there else f"./{there}"  # else, it would be a name
        raise UserError(
            f"{folder} has no split {wanted!r}, and {path} is a data set: take "
            f"--config.data.dataset={shlex.quote(there)}"
        )
    if not names:
        raise UserError(
            f"{folder} has neither folders, with images as SPLIT/CLASS/FILE or CLASS/FILE, nor the "
            "dataset_info.json of a data set that was prepared, or copied, in full"
        )


def _first(names: list[str]) -> str:
    return some(list(map(repr, names)), most=3)


def _list_split(
    folder: epath.Path,
    split: str,
    classes: tuple[str, ...],
    reference: epath.Path,
    left_out: LeftOut,
    allow_empty_classes: bool,
) -> list[Row]:
    here = folder / split
    label_of = {name: label for label, name in enumerate(classes)}
    rows, empty = [], []
    for name in folders_in(here, left_out):
        label = label_of.get(as_seen(name))
        if label is None:
            raise UserError(
                f"{here} has the class {name!r}, which {reference} has not: every class needs a "
                "folder there"
            )
        inside = LeftOut()
        path = f"{split}/{name}" if split else name
        before = len(rows)
        for file, size in images_below(here / name, inside):
            rows.append((label, f"{path}/{file}", size))
        if len(rows) == before:
            only = "only subfolders" if holds(here / name) else "nothing"
            empty.append(f"{name!r} ({inside.kinds() or only})")
        left_out.add(inside)
    if not rows:
        raise UserError(
            f"{here} holds no images in folders of classes, but {str(left_out) or 'nothing'}: lay "
            f"them out as {here}/CLASS/FILE, or name a table of their labels (docs/data.md)"
        )
    if empty and not allow_empty_classes:
        raise UserError(
            f"{len(empty):,} of the {len(classes):,} classes of {here} hold no image: "
            f"{', '.join(empty[:5])}{', ...' * (len(empty) > 5)}; fill their folders, take them "
            "away, or keep these classes as they are: --config.data.allow_empty_classes=True"
        )
    if len(classes) == 1 and "images" not in holds(here / classes[0]):
        raise UserError(
            f"{here} has a single class, {classes[0]!r}, and all images in folders of that: move "
            f"these one level up, out of {here / classes[0]}"
        )
    return rows
