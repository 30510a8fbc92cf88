"""Numbers on disk, over interruptions."""

import json
import threading

import pytest
from tensorboardX.proto import event_pb2

from shunted_jax.reporting import metrics_files
from shunted_jax.reporting.metrics_files import MetricsFiles, read_metrics
from tests.support.full_disk import largest_file


def scalars(folder):
    """Returns (step, name, value) of each scalar in the TensorBoard files of a folder."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return found


def test_both_files_hold_the_same_numbers(tmp_path):
    with MetricsFiles(tmp_path) as files:
        files.write(1, {"train/loss": 2.5, "train/top1": 0.25})
        files.write(2, {"train/loss": 1.5})
        # Every line is there at once, not only when the run ends.
        assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "train/loss": 2.5, "train/top1": 0.25},
        {"step": 2, "train/loss": 1.5},
    ]
    assert sorted(scalars(tmp_path / "tensorboard")) == [
        (1, "train/loss", 2.5),
        (1, "train/top1", 0.25),
        (2, "train/loss", 1.5),
    ]


def test_what_is_run_again_is_not_there_twice(tmp_path):
    with MetricsFiles(tmp_path) as files:
        for step in range(1, 6):
            files.write(step, {"train/loss": float(step)})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-8])  # the last line was cut off
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4]
    with MetricsFiles(tmp_path, start_step=3) as files:
        files.write(4, {"train/loss": 40.0})
    assert [(record["step"], record["train/loss"]) for record in read_metrics(path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 40.0),
    ]


def test_what_is_no_record_is_said_and_never_lost(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    lines = [
        b'{"step": 1, "train/loss": 1.0}',
        b"my note: a new disk from here",
        b"\xff\x00\x00",
        b"12",
        b"",
        b'{"step": 2, "train/loss": 2.0}',
        b'{"step": 3, "train/loss": 3.0}',
    ]
    path.write_bytes(b"\n".join(lines) + b'\n{"step": 4, "tra')
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3]
    said = [f"{path}, line {number}, is no record and is passed over" for number in (2, 3, 4)]
    assert [record.getMessage() for record in caplog.records] == said
    with MetricsFiles(tmp_path, start_step=2) as files:
        files.write(3, {"train/loss": 30.0})
    after = path.read_bytes().split(b"\n")
    assert after == [*lines[:-1], b'{"step": 3, "train/loss": 30.0}', b""]


def test_last_record_may_lack_its_end_of_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "x": 1}\n{"step": 2, "x": 2}')
    with MetricsFiles(tmp_path, start_step=2) as files:
        files.write(3, {"x": 3})
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3]


@pytest.mark.parametrize("full", ["metrics.jsonl", "tensorboard"])
def test_full_disk_is_the_writers_error_alone(tmp_path, full, monkeypatch):
    """No thread of its own that ends with a traceback, or lets the run wait for ever."""
    ended = []
    monkeypatch.setattr(threading, "excepthook", ended.append)
    threads = threading.active_count()
    values = {f"value/{number}": 0.5 for number in range(40)}
    if full == "tensorboard":  # the other one is a device that takes all
        monkeypatch.setattr(metrics_files, "_line", lambda record: "")
    with (  # noqa: PT012
        largest_file(8192),
        pytest.raises(OSError, match="File too large"),
        MetricsFiles(tmp_path) as files,
    ):
        for step in range(100):
            files.write(step, values)
            assert threading.active_count() == threads
    assert not ended


def test_no_file_is_no_records(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
