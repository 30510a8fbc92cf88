"""Where runs, checkpoints and data lie: a folder here, or an address such as gs://bucket/run.

Every path that a person writes comes in through `as_path`, be it of a flag, a configuration or a
call.
"""

import contextlib
import glob
import importlib.util
import os
import shutil
import uuid
from collections.abc import Iterator

from etils import epath

from shunted_jax.adapters.buckets import list_each_time
from shunted_jax.adapters.etils import Folder
from shunted_jax.adapters.tensorstore import misread_in
from shunted_jax.errors import UserError, in_a_line

# What `pip install` takes for them.
EXTRA = "shunted-jax[gcs]"

# What Google's and others' programs take for patterns, parts of a path or versions in an address.
_NOT_IN_BUCKETS = "[]*?#\\"


def in_bucket(path: str | os.PathLike) -> bool:
    """Returns whether `path` is an address such as gs://bucket/run."""
    return "://" in os.fspath(path)


def as_path(path: str | os.PathLike) -> epath.Path:
    """Returns a path as a person wrote it: `~` is the home folder, and brackets are no pattern.

    What came in before is left as it is.

    Raises:
        UserError: there is no such home folder, or nothing in a bucket can be called so.
    """
    if isinstance(path, Folder):
        return path
    text = os.fspath(path)
    if in_bucket(text):
        if odd := "".join(sorted(set(text) & set(_NOT_IN_BUCKETS))):
            raise UserError(
                f"{text}: in a bucket, {odd} would be read as a pattern: name it without"
            )
        try:
            return epath.Path(text)
        except KeyError:  # of what stands before ://
            raise _other_address(text) from None
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        start = expanded.partition("/")[0]
        raise UserError(
            f"{text}: there is no home folder {start} here; write it in full, or ./{text} where "
            "a folder is called so"
        )
    folder = Folder(expanded)
    # Of ./~x, the start is gone: the next one to look at it would take it for a home.
    return folder.absolute() if os.fspath(folder).startswith("~") else folder


def as_text(path: str | os.PathLike | None) -> str | None:
    """Returns `as_path` of a path as text, for packages that ask for it; None stays None."""
    return None if path is None else os.fspath(as_path(path))


def on_disk(path: str | os.PathLike) -> epath.Path:
    """Returns `as_path` of what can lie on this machine alone, such as PyTorch's files.

    Raises:
        UserError: it is in a bucket, or as `as_path` says.
    """
    if in_bucket(path):
        raise UserError(
            f"{path}: PyTorch's files are read and written on this machine; copy them from or to "
            "a bucket yourself"
        )
    return as_path(path)


def reachable(path: str | os.PathLike) -> epath.Path:
    """Returns `path`, as one reads and writes folders and buckets alike.

    It asks whether a bucket is there. From the first bucket on, gcsfs lists folders anew each time:
    fsspec's configuration is changed for this process.

    Raises:
        UserError: it is an address of which nothing can be read here, or as `as_path` says.
    """
    found = as_path(path)
    if not in_bucket(path):
        return found
    scheme, _, rest = os.fspath(path).partition("://")
    bucket = rest.partition("/")[0]
    if scheme == "hf":
        raise UserError(
            f"{path}: a hub is read from, and nothing else; convert_weights.py --to-hub-folder "
            "writes a folder, which `hf upload` takes there"
        )
    if scheme != "gs" or not bucket:
        raise _other_address(path)
    if not any(map(importlib.util.find_spec, ("gcsfs", "tensorflow"))):
        raise UserError(f"{path}: to read and write buckets, pip install '{EXTRA}'")
    list_each_time()
    try:
        there = epath.Path(f"gs://{bucket}").exists()
    except Exception as error:  # of sockets, HTTP, credentials: whatever stands in between
        raise UserError(
            f"gs://{bucket} cannot be reached: {in_a_line(error)}; `gcloud auth "
            "application-default login` gives this machine a name that the bucket may know"
        ) from error
    if not there:
        raise UserError(f"{path}: there is no bucket {bucket!r} that can be seen from here")
    return found


def absolute(path: str | os.PathLike) -> epath.Path:
    """Returns the path of checkpoints as Orbax takes it, which refuses relative ones.

    Raises:
        UserError: it is in a bucket that cannot be reached, or what reads and writes arrays would
            go elsewhere.
    """
    path = reachable(path)
    if in_bucket(path):
        return path  # which has nothing that it could be relative to
    path = path.absolute()
    if misread := misread_in(os.fspath(path)):
        raise UserError(
            f"{os.fspath(path)!r} has {misread} in it, and arrays would be written elsewhere or "
            "not at all: name another folder for checkpoints, or rename this one"
        )
    return path


def size_of(path: epath.Path) -> int:
    """Returns a file's size in bytes; raises `FileNotFoundError`."""
    # Of a folder's files, etils asks for their owner's name as well, which a container may lack.
    return path.stat().length if in_bucket(path) else os.stat(path).st_size


def replace_text(path: epath.Path, text: str) -> None:
    """Writes a file as `replace_bytes` does, as UTF-8 in any locale."""
    replace_bytes(path, text.encode())


def replace_bytes(path: epath.Path, content: bytes) -> None:
    """Writes a file as a whole: who reads it, or writes it at the same time, never meets a part."""
    if in_bucket(path):
        path.write_bytes(content)  # objects change at once
        return
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)  # etils' own says without a number what is in the way
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def written_aside(path: epath.Path) -> Iterator[epath.Path]:
    """Yields a name beside `path` to write under; what is there then takes the place of `path`.

    An interruption leaves nothing at `path`, or what was there before. What a killed process left
    beside it is cleared away, so one process at a time writes to `path`: `locks.alone_at`.

    Args:
        path: of a file or folder on a disk; the folder that it lies in is there.
    """
    beside = path.parent / f".{path.name}.incomplete"
    replaced = path.parent / f".{path.name}.replaced"
    _remove_unfinished(beside)
    try:
        yield beside
        if path.exists():
            _remove(replaced)
            path.rename(replaced)
        beside.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        _remove_unfinished(beside)
        raise
    _remove(replaced)


def _remove_unfinished(beside: epath.Path) -> None:
    # Orbax writes under the name that it is given and an ending of its own.
    for left in (beside, *beside.parent.glob(f"{glob.escape(beside.name)}.*")):
        _remove(left)


def _remove(path: epath.Path) -> None:
    if path.is_dir() and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _other_address(path: str | os.PathLike) -> UserError:
    return UserError(f"{path}: of addresses, those such as gs://bucket/run are understood")
