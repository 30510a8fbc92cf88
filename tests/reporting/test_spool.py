"""Files on their way to a bucket, which here is a folder."""

import contextlib
import logging

import pytest
from etils import epath

from shunted_jax.errors import LockError, RunError
from shunted_jax.reporting import metrics_files
from shunted_jax.reporting.metrics_files import MetricsFiles, read_metrics
from shunted_jax.reporting.spool import Spool
from tests.reporting.test_metrics_files import scalars


@pytest.fixture(autouse=True)
def local(tmp_path, monkeypatch):
    """Returns the folder of this host that spools are made in."""
    folder = tmp_path / "local"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_only_what_changed_is_copied(tmp_path):
    spool = Spool(epath.Path(tmp_path / "there"))
    (tmp_path / "there" / "below").mkdir(parents=True)
    (spool.folder / "below").mkdir()
    (spool.folder / "a").write_text("1")
    (spool.folder / "below" / "b").write_text("2")
    spool.copy()
    assert (tmp_path / "there" / "below" / "b").read_text() == "2"
    (tmp_path / "there" / "a").unlink()
    (spool.folder / "below" / "b").write_text("22")
    spool.close()
    assert not (tmp_path / "there" / "a").exists()
    assert (tmp_path / "there" / "below" / "b").read_text() == "22"
    assert not spool.folder.exists()


def test_what_cannot_be_copied_stays_and_is_named(tmp_path, caplog):
    spool = Spool(epath.Path(tmp_path / "nowhere"))
    (spool.folder / "a").write_text("1")
    with pytest.raises(RunError, match=rf"nowhere/a cannot be .* is in {spool.folder}"):
        spool.close()
    with caplog.at_level(logging.WARNING):
        spool.close(failed=True)  # what has failed already is to be heard of first
    assert "nowhere/a cannot be written: FileNotFoundError" in caplog.text
    assert (spool.folder / "a").read_text() == "1"


def test_who_lost_the_bucket_to_another_run_copies_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(metrics_files, "in_bucket", lambda path: True)
    there = epath.Path(tmp_path / "there")
    (there / "tensorboard").mkdir(parents=True)
    files = MetricsFiles(there)
    files.write(1, {"train/loss": 3.0})
    files.__exit__(LockError, LockError("another run has it"), None)
    assert [path.name for path in there.iterdir()] == ["tensorboard"]
    assert f"what was not copied to {there} is in {files.jsonl_path.parent}" in caplog.text
    assert len(read_metrics(files.jsonl_path)) == 1


def test_metrics_go_on_from_what_is_in_the_bucket(tmp_path, local, monkeypatch):
    monkeypatch.setattr(metrics_files, "in_bucket", lambda path: True)
    there = epath.Path(tmp_path / "there")
    (there / "tensorboard").mkdir(parents=True)
    with MetricsFiles(there) as files:
        files.write(1, {"train/loss": 3.0})
        files.write(2, {"train/loss": 2.0})
        assert not (there / "metrics.jsonl").exists()
        files.publish()
        assert [record["step"] for record in read_metrics(there / "metrics.jsonl")] == [1, 2]
        assert (2, "train/loss", 2.0) in scalars(tmp_path / "there" / "tensorboard")
        files.write(3, {"train/loss": 1.0})
    assert [record["step"] for record in read_metrics(there / "metrics.jsonl")] == [1, 2, 3]
    assert not list(local.iterdir())

    with contextlib.suppress(KeyboardInterrupt), MetricsFiles(there, start_step=2) as files:
        files.write(3, {"train/loss": 9.0})
        raise KeyboardInterrupt
    records = read_metrics(there / "metrics.jsonl")
    assert [record["train/loss"] for record in records] == [3.0, 2.0, 9.0]
