"""A run's numbers on disk: `metrics.jsonl` for programs, TensorBoard events for people."""

import contextlib
import json
import logging
from pathlib import Path
from typing import TextIO

import jax
from etils import epath

from shunted_jax.reporting.events_file import EventsFile
from shunted_jax.reporting.spool import Spool
from shunted_jax.storage import in_bucket

logger = logging.getLogger(__name__)


class MetricsFiles:
    """Writes each record to both files, on the first process only. Use it as a context manager."""

    def __init__(self, workdir: epath.Path, start_step: int = 0, *, evaluated: bool = True):
        """Opens the files, keeping what an earlier part of the run wrote up to `start_step`.

        Args:
            workdir: the run's folder; it exists, or is in a bucket.
            start_step: the last step that is not run again; later records are dropped.
            evaluated: False drops that of the evaluation after `start_step`, too.
        """
        self._spool: Spool | None = None
        self._files: tuple[TextIO, EventsFile] | None = None
        if jax.process_index():
            return
        if in_bucket(workdir):
            self._spool = Spool(workdir)
            self._spool.fetch("metrics.jsonl")
            workdir = self._spool.folder
        self.jsonl_path = Path(workdir) / "metrics.jsonl"
        self.events_dir = Path(workdir) / "tensorboard"
        kept = [
            line + b"\n"
            for line, record in _read_lines(self.jsonl_path)
            if record is None
            or record["step"] < start_step
            or (record["step"] == start_step and (evaluated or "eval/loss" not in record))
        ]
        _replace_bytes(self.jsonl_path, b"".join(kept))
        self._files = (
            self.jsonl_path.open("a", encoding="utf-8"),
            EventsFile(self.events_dir, purge_step=start_step + 1 if start_step else None),
        )

    def __enter__(self) -> "MetricsFiles":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        with contextlib.ExitStack() as stack:  # each is closed, whether or not the others can be
            if self._spool is not None:
                stack.callback(self._spool.close, failed=error is not None)
            for file in self._files or ():
                stack.callback(file.close)

    def publish(self) -> None:
        """Copies what was written to the run's folder if that is in a bucket; else it is there.

        Raises:
            RunError: the bucket does not take it.
        """
        if self._spool is not None:
            self._spool.copy()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Appends numbers by name, such as `train/loss`, under a step."""
        if self._files is None:
            return
        jsonl, events = self._files
        jsonl.write(_line({"step": step, **metrics}))
        jsonl.flush()
        events.write(step, metrics)


def read_metrics(jsonl_path: epath.Path) -> list[dict[str, float]]:
    """Returns the records of a `metrics.jsonl`, oldest first; none where there is no file.

    A last line that was cut off, as by a power failure, is left out. Any other line that is no
    record is named in the log, and stays in the file.
    """
    return [record for _, record in _read_lines(jsonl_path) if record is not None]


def _read_lines(path: epath.Path) -> list[tuple[bytes, dict[str, float] | None]]:
    """Returns each line and the record that it is, None where it is none."""
    if not path.exists():
        return []
    *lines, last = path.read_bytes().split(b"\n")
    found = [(line, _record(line)) for line in lines]
    if (record := _record(last)) is not None:
        found.append((last, record))  # whole, and only its end of line is missing
    for number, (line, record) in enumerate(found, start=1):
        if record is None and line.strip():
            logger.warning("%s, line %d, is no record and is passed over", path, number)
    return found


def _record(line: bytes) -> dict[str, float] | None:
    try:
        record = json.loads(line)
    except ValueError:  # no JSON, or no text
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _line(record: dict[str, float]) -> str:
    return json.dumps(record) + "\n"


def _replace_bytes(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
