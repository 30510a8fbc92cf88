"""Files that cannot be read: which are bad images, and which say that the machine is at fault."""

import errno
import os
import socket
from pathlib import Path

import pytest

from shunted_jax.data import reading
from shunted_jax.data.bad_images import BadImageError
from shunted_jax.data.reading import read_image_file
from shunted_jax.errors import RunError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"pixels")
    return path


def test_bytes_are_those_of_the_file_and_of_what_a_link_leads_to(file):
    assert read_image_file(file) == b"pixels"
    link = file.parent / "y.jpg"
    link.symlink_to(file)
    assert read_image_file(link) == b"pixels"


def gone(path):
    pass


def link_to_nothing(path):
    path.symlink_to("nowhere.jpg")


def link_to_itself(path):
    path.symlink_to(path.name)


def link_to_a_long_name(path):
    path.symlink_to("x" * 300)


def below_a_file(path):
    path.symlink_to("x.jpg/y.jpg")


def folder(path):
    path.mkdir()


def named_pipe(path):
    os.mkfifo(path)  # which nobody writes into


def device(path):
    path.symlink_to("/dev/null")


def full_socket(path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (gone, "no such file any more"),
        (link_to_nothing, "a link to nothing"),
        (link_to_itself, "a link to itself"),
        (link_to_a_long_name, "a name that is too long"),
        (below_a_file, "no such file any more"),
        (folder, "a folder"),
        (named_pipe, "a named pipe"),
        (device, "a device"),
        (full_socket, "a socket"),
    ],
)
def test_what_is_no_file_is_a_bad_image(file, make, message, monkeypatch):
    monkeypatch.chdir(file.parent)  # a socket's path is a short one
    path = Path("z.jpg")
    make(path)
    with pytest.raises(BadImageError, match=message):
        read_image_file(file.parent / "z.jpg")


def test_what_may_not_be_read_is_a_bad_image(file):
    file.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # nothing is kept from root
    try:
        with pytest.raises(BadImageError, match="permission denied"):
            read_image_file(file)
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM])
def test_what_says_nothing_of_the_image_ends_the_run(file, code, monkeypatch):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(reading, "_open_at_once", fail)
    with pytest.raises(RunError, match=f"x.jpg cannot be read: {os.strerror(code)}.*nothing of"):
        read_image_file(file)


def test_a_folder_that_is_gone_ends_the_run(file):
    missing = file.parent / "cat" / "x.jpg"
    with pytest.raises(RunError, match="cat, which was there, .*No such file.*is mounted"):
        read_image_file(missing)


def test_of_a_bucket_a_file_that_is_gone_is_bad_too():
    class Object:
        def __fspath__(self):
            return "gs://bucket/train/cat/x.jpg"

        def read_bytes(self):
            raise FileNotFoundError("gs://bucket/train/cat/x.jpg")

    with pytest.raises(BadImageError, match="no such file any more"):
        read_image_file(Object())
