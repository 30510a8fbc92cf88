"""How paths come in, and what is said of addresses before anything is read from them."""

import errno
import importlib.util
import os

import pytest
from etils import epath

from shunted_jax.adapters.etils import Folder
from shunted_jax.checkpoints import read_weights
from shunted_jax.errors import UserError
from shunted_jax.resources import Refusal, refusal
from shunted_jax.storage import (
    absolute,
    as_path,
    as_text,
    reachable,
    replace_text,
    written_aside,
)


def test_folders_are_not_looked_at(tmp_path):
    assert reachable(tmp_path / "none") == epath.Path(tmp_path / "none")
    assert reachable("runs/x") == epath.Path("runs/x")


def test_relative_folders_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("runs/x") == epath.Path(tmp_path / "runs" / "x")
    assert absolute(tmp_path) == epath.Path(tmp_path)


def test_a_tilde_is_the_home_folder_and_comes_in_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert as_path("~/x[1]") == epath.Path(tmp_path / "x[1]")
    assert as_path("~") == epath.Path(tmp_path)
    assert as_path("runs/~x") == epath.Path("runs/~x")
    assert os.fspath(as_path("runs/x")) == "runs/x"  # as it was written
    assert as_text("~/d") == f"{tmp_path}/d"
    assert as_text(None) is None
    for path in ("~/x", "runs/x", "./~", "./~x", "/x"):
        once = as_path(path)
        assert type(once) is Folder
        assert as_path(once) is once
        assert as_path(os.fspath(once)) == once
    assert as_path("./~x") == epath.Path(tmp_path / "~x")


def test_a_home_that_nobody_has_is_no_folder_here(monkeypatch):
    with pytest.raises(UserError, match=r"^~nobody-here/x: there is no home folder ~nobody-here"):
        as_path("~nobody-here/x")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # a container's user without a name
    with pytest.raises(UserError, match=r"no home folder ~ here; write it in full, or \./~/x"):
        read_weights("~/x")


@pytest.mark.parametrize(
    ("name", "what"), [("a\\b", "a backslash"), ("caf\udce9", "bytes that are not UTF-8")]
)
def test_names_under_which_arrays_would_be_lost_are_refused(name, what, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    for take in (absolute, read_weights):
        with pytest.raises(UserError, match=f"has {what} in it, and arrays would be written else"):
            take("runs/x")  # a folder above is enough


@pytest.mark.parametrize("odd", "[]*?#\\")
def test_what_is_a_pattern_in_a_bucket_is_refused(odd):
    with pytest.raises(UserError, match="would be read as a pattern: name it without"):
        as_path(f"gs://bucket/run{odd}1")


@pytest.mark.parametrize("address", ["s3://bucket/run", "gs://", "gs:///run", "gcs://bucket/run"])
def test_addresses_of_another_kind_are_refused(address):
    with pytest.raises(UserError, match="those such as gs://bucket/run are understood"):
        reachable(address)


def test_what_has_to_be_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for read in (reachable, read_weights):
        with pytest.raises(UserError, match=r"pip install 'shunted-jax\[gcs\]'"):
            read("gs://bucket/run")


def test_buckets_that_cannot_be_seen_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "gcsfs")
    monkeypatch.setattr(type(epath.Path("gs://x")), "exists", lambda path: False)
    with pytest.raises(UserError, match="gs://typo/run: there is no bucket 'typo'"):
        reachable("gs://typo/run")

    def refuse(path):
        raise OSError(f"Anonymous caller does not have storage.buckets.get access to {path}\nmore")

    monkeypatch.setattr(type(epath.Path("gs://x")), "exists", refuse)
    with pytest.raises(UserError, match=r"^gs://run cannot be reached: OSError: .* gs://run; `gc"):
        reachable("gs://run/x")


def test_files_are_written_as_a_whole(tmp_path):
    path = epath.Path(tmp_path / "eval.json")
    replace_text(path, "before, and longer")
    with path.open() as reader:
        replace_text(path, "after")
        assert reader.read() == "before, and longer"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [tmp_path / "eval.json"]
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        replace_text(path, "in the way")
    assert refusal(caught.value) == Refusal(errno.EISDIR, str(path))
    assert list(tmp_path.iterdir()) == [tmp_path / "eval.json"]


def test_what_cannot_be_replaced_stays(tmp_path, monkeypatch):
    path = epath.Path(tmp_path / "x")
    path.write_text("old")
    rename = type(path).rename

    def fails_for_what_is_new(self, target):
        if "incomplete" in self.name:
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", fails_for_what_is_new)
    with pytest.raises(OSError, match="no"), written_aside(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.undo()
    with written_aside(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
