"""Which of a folder's files are images, which of its folders may be classes, and the rest."""

import collections
import dataclasses
import os
from collections.abc import Iterator

from etils import epath

from shunted_jax.storage import in_bucket

# What Pillow decodes without further programs, and people keep photographs in.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    *(".png", ".apng", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".dib"),
    *(".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".qoi", ".tga"),
)
_IMAGES = frozenset(EXTENSIONS)
# Folders that archives, file systems and network drives leave; hidden ones begin with a dot.
_OF_NO_CLASS = frozenset(
    {
        "__MACOSX",
        "__pycache__",
        "@eaDir",
        "@tmp",
        "@Recycle",
        "#recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
    }
)


@dataclasses.dataclass
class LeftOut:
    """What lies among a split's images and is none.

    Attributes:
        files: how many of each kind, such as ".txt" or "hidden".
        folders: the names of those that are no classes and nothing of a class.
    """

    files: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    folders: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def add(self, other: "LeftOut") -> None:
        """Counts what another one has counted."""
        self.files.update(other.files)
        self.folders.update(other.folders)

    def __str__(self) -> str:
        """Says it as in "12 files (10 .txt, 2 hidden) and the folder __MACOSX"; empty: nothing."""
        parts = []
        if self.files:
            number = self.files.total()
            parts.append(f"{number:,} file{'s' * (number > 1)} ({self.kinds()})")
        if self.folders:
            names = sorted(map(_shown, self.folders))
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            parts.append(f"the folder{'s' * (len(names) > 1)} {', '.join(names[:5])}{more}")
        return " and ".join(parts)

    def kinds(self) -> str:
        """Says the files as in "10 .txt, 2 hidden"; empty: there are none."""
        return ", ".join(f"{count:,} {_shown(kind)}" for kind, count in self.files.most_common())


def extension(name: str) -> str:
    """Returns a file's extension in small letters, with its dot; empty where it has none."""
    return os.path.splitext(name)[1].lower()


def is_image(name: str) -> bool:
    """Returns whether a file is an image by its name; `._x.jpg`, which macOS writes, is none."""
    return not name.startswith(".") and extension(name) in _IMAGES


def entries(folder: epath.Path) -> Iterator[os.DirEntry | epath.Path]:
    """Yields what lies in a folder, each with `name`, `is_dir()` and `stat()`."""
    if in_bucket(folder):
        yield from folder.iterdir()
        return
    with os.scandir(folder) as found:
        yield from found


def size_of(entry: os.DirEntry | epath.Path) -> int:
    """Returns a file's size in bytes; -1 where that cannot be told, or would take a request."""
    if not isinstance(entry, os.DirEntry):
        return -1
    try:
        return entry.stat().st_size
    except OSError:  # a link that leads nowhere
        return -1


def folders_in(folder: epath.Path, left_out: LeftOut | None = None) -> list[str]:
    """Returns the names of the folders that may be splits or classes, in order.

    Args:
        folder: where to look.
        left_out: counts what else is there.
    """
    left_out = LeftOut() if left_out is None else left_out
    names = []
    for entry in entries(folder):
        if not _is_folder(entry):
            left_out.files["hidden" if entry.name.startswith(".") else "in no class's folder"] += 1
        elif _may_be_class(entry.name):
            names.append(entry.name)
        else:
            left_out.folders[entry.name] += 1
    return sorted(names)


def holds(folder: epath.Path) -> set[str]:
    """Returns which of "images" and "folders" lie in a folder itself."""
    found = set()
    for entry in entries(folder):
        if is_image(entry.name):
            found.add("images")
        elif _may_be_class(entry.name) and _is_folder(entry):
            found.add("folders")
    return found


def images_below(
    folder: epath.Path, left_out: LeftOut, above: tuple[str, ...] = ()
) -> Iterator[tuple[str, int]]:
    """Yields the path from `folder` and the size of each image in it and in its subfolders.

    What is called like an image counts as one, and shows when it is read if it is none.

    Args:
        folder: where to look.
        left_out: counts what else is there.
        above: the real paths of the folders that led here: a link back is not followed.
    """
    here = above if in_bucket(folder) else (*above, os.path.realpath(folder))
    for entry in entries(folder):
        if is_image(entry.name):
            yield entry.name, size_of(entry)
        elif not _is_folder(entry):
            hidden = entry.name.startswith(".")
            kind = "hidden" if hidden else extension(entry.name) or "without an extension"
            left_out.files[kind] += 1
        elif not _may_be_class(entry.name) or _leads_back(entry, here):
            left_out.folders[entry.name] += 1
        else:
            for name, size in images_below(folder / entry.name, left_out, here):
                yield f"{entry.name}/{name}", size


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)  # bytes that are no text, line breaks


def _may_be_class(name: str) -> bool:
    return not name.startswith(".") and name not in _OF_NO_CLASS


def _leads_back(entry: os.DirEntry | epath.Path, above: tuple[str, ...]) -> bool:
    there = os.path.join(os.path.realpath(entry), "")
    return any(os.path.join(path, "").startswith(there) for path in above)


def _is_folder(entry: os.DirEntry | epath.Path) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a folder that may not be looked into
        return False
