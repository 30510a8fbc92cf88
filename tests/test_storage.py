"""What is said of addresses before anything is read from them."""

import importlib.util

import pytest
from etils import epath

from shunted_jax.checkpoints import read_weights
from shunted_jax.errors import UserError
from shunted_jax.storage import absolute, reachable, written_aside


def test_folders_are_not_looked_at(tmp_path):
    assert reachable(tmp_path / "none") == epath.Path(tmp_path / "none")
    assert reachable("runs/x") == epath.Path("runs/x")


def test_relative_folders_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("runs/x") == epath.Path(tmp_path / "runs" / "x")
    assert absolute(tmp_path) == epath.Path(tmp_path)


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
