"""What an operating system refuses, from real disks and rights: which resource, and the remedy."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from shunted_jax import resources
from shunted_jax.errors import RunError, UserError
from shunted_jax.resources import (
    Refusal,
    check_writable,
    in_units,
    refusal,
    shared_memory,
    writing_into,
)
from tests.support.mounts import run_with_mounts


def os_error(number, path=None):
    return OSError(number, os.strerror(number), *([] if path is None else [path]))


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (os_error(errno.ENOSPC), Refusal(errno.ENOSPC)),
        (os_error(errno.EACCES, "/data/x"), Refusal(errno.EACCES, "/data/x")),
        (os_error(errno.EROFS, b"/data/caf\xe9"), Refusal(errno.EROFS, "/data/caf\udce9")),
        (os_error(errno.EISDIR, "/data/x"), Refusal(errno.EISDIR, "/data/x")),
        (os_error(errno.EACCES), None),  # of what, nobody could say
        (os_error(errno.EBADF, "/data/x"), None),  # the program's own fault
        (ValueError("Error writing: Disk quota exceeded [tensorstore_"), Refusal(errno.EDQUOT)),
        (ValueError("Error reading: Permission denied"), None),
    ],
)
def test_what_a_system_refuses_is_told_from_what_the_program_does(error, found):
    assert refusal(error) == found
    outer = RuntimeError("what it led to")
    outer.__context__, outer.__suppress_context__ = error, True  # hidden by `from None`
    assert refusal(outer) == found


def test_the_folder_is_named_or_what_else_is_to_blame(tmp_path):
    full, foreign = os_error(errno.ENOSPC), os_error(errno.EACCES, "/dev/shm/sem")
    within = os_error(errno.EROFS, str(tmp_path / "run" / "x"))
    for error, sentence in [
        (full, f"nothing can be written into {tmp_path}: No space left on device; make room"),
        (within, f"nothing can be written into {tmp_path}: Read-only file system; name a folder"),
        (foreign, "/dev/shm ("),
    ]:
        with pytest.raises(RunError) as caught, writing_into(tmp_path):
            raise error
        assert str(caught.value).startswith(sentence)
    for error in (KeyError("x"), UserError("x"), RunError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, writing_into(tmp_path):
            raise error
        assert caught.value is error


def test_sizes_are_told_as_people_read_them(monkeypatch):
    sizes = [0, 999, 1000, 67_108_864, 2.5e9, 1.2e12]
    assert [in_units(size) for size in sizes] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "67.1 MB",
        "2.5 GB",
        "1,200.0 GB",
    ]
    monkeypatch.setattr(resources, "SHARED_MEMORY", "/none")
    assert shared_memory() == "/none"


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("file", "file: {}/file is a file, and must be a folder: name another"),
        ("file/run", "file/run: {}/file is a file, and must be a folder: name another"),
        ("nowhere/run", "nowhere/run: {}/nowhere is a link to nothing, and must be a folder"),
    ],
)
def test_what_is_in_the_way_is_named(folder, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("nowhere").symlink_to("none")
    with pytest.raises(UserError) as caught:
        check_writable(folder)
    assert str(caught.value).startswith(said.format(tmp_path))
    check_writable("new/run")
    assert sorted(os.listdir()) == ["file", "nowhere"]  # nothing was made


# Once all is imported, the process gives up its rights, and uses disks that take nothing.
PROGRAM = """
import json, os, sys
from pathlib import Path
from shunted_jax import load_pretrained
from shunted_jax.commands.prepare import prepare_digits
from shunted_jax.data.sources import open_source
from shunted_jax.errors import RunError, UserError
from shunted_jax.resources import check_writable

def said(call, *arguments):
    try:
        call(*arguments)
    except (UserError, RunError) as error:
        return type(error).__name__, str(error)

full, read_only, closed, images = sys.argv[1:]
found = [
    said(prepare_digits, full),
    said(prepare_digits, read_only),
    said(check_writable, read_only + "/runs/x"),
    said(check_writable, closed),
]
os.setuid(65534)
found += [
    said(check_writable, closed + "/runs/x"),
    said(open_source, images, "train"),
    said(open_source, "digits", "train", closed + "/data"),
    said(load_pretrained, closed + "/runs/x"),
]
print(json.dumps(found))
"""


def test_disks_that_are_full_or_read_only_and_rights_that_are_missing(tmp_path):
    full, read_only, closed = (tmp_path / name for name in ("full", "read_only", "closed"))
    for folder in (full, read_only, closed / "data", tmp_path / "images" / "train" / "cat"):
        folder.mkdir(parents=True)
    for folder in (*tmp_path.parents, tmp_path):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)  # pytest's own are for their owner alone
    closed.chmod(0o700)
    (tmp_path / "images" / "train").chmod(0o700)
    done = run_with_mounts(
        {str(full): "size=64k", str(read_only): "ro"},
        [sys.executable, "-c", PROGRAM, full, read_only, closed, f"{tmp_path}/images"],
    )
    found = json.loads(done.stdout.splitlines()[-1])
    of_closed = "Permission denied; have its owner let you in, or name another"
    of_read_only = "Read-only file system; name a folder that is not mounted read-only"
    assert found == [
        ["RunError", f"nothing can be written into {full}: No space left on device; make room"],
        ["RunError", f"nothing can be written into {read_only}: {of_read_only}"],
        [
            "UserError",
            f"{read_only}/runs/x: nothing can be written into {read_only}: {of_read_only}",
        ],
        None,  # root may
        ["UserError", f"{closed}/runs/x: nothing can be written into {closed}: {of_closed}"],
        [
            "UserError",
            f"config.data.dataset is '{tmp_path}/images', and cannot be read: "
            f"{tmp_path}/images/train: {of_closed}",
        ],
        ["UserError", f"{closed}/data: {of_closed}"],
        ["UserError", f"{closed}/runs/x: {of_closed}"],
    ]
