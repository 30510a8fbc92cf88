"""A run's numbers on disk: `metrics.jsonl` for programs, TensorBoard events for people."""

import contextlib
import json
from pathlib import Path
from typing import TextIO

import jax
from etils import epath

from shunted_jax.reporting.events_file import EventsFile
from shunted_jax.reporting.spool import Spool
from shunted_jax.storage import in_bucket


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
            record
            for record in read_metrics(self.jsonl_path)
            if record["step"] < start_step
            or (record["step"] == start_step and (evaluated or "eval/loss" not in record))
        ]
        _replace_text(self.jsonl_path, "".join(_line(record) for record in kept))
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
        """Has all that was written in the run's folder, where that is in a bucket; else it is.

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

    A last line that was cut off, as by a power failure, is left out.
    """
    if not jsonl_path.exists():
        return []
    records = []
    for line in jsonl_path.read_bytes().decode().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _line(record: dict[str, float]) -> str:
    return json.dumps(record) + "\n"


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
