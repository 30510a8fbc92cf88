"""A run's numbers on disk: `metrics.jsonl` for programs, TensorBoard events for people."""

import json
import os
from pathlib import Path
from typing import TextIO

import tensorboardX

from shunted_jax.training.distributed import is_first_process


class MetricsFiles:
    """Writes each record to both files, on the first process only. Use it as a context manager."""

    def __init__(self, workdir: Path, start_step: int = 0):
        """Opens the files, keeping what an earlier part of the run wrote up to `start_step`.

        Args:
            workdir: the run's folder; it exists.
            start_step: the last step that is not run again; later records are dropped.
        """
        self.jsonl_path = workdir / "metrics.jsonl"
        self.events_dir = workdir / "tensorboard"
        self._files: tuple[TextIO, tensorboardX.SummaryWriter] | None = None
        if not is_first_process():
            return
        kept = [record for record in read_metrics(self.jsonl_path) if record["step"] <= start_step]
        _replace_text(self.jsonl_path, "".join(_line(record) for record in kept))
        self._files = (
            self.jsonl_path.open("a", encoding="utf-8"),
            tensorboardX.SummaryWriter(
                os.fspath(self.events_dir), purge_step=start_step + 1 if start_step else None
            ),
        )

    def __enter__(self) -> "MetricsFiles":
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files or ():
            file.close()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Appends numbers by name, such as `train/loss`, under a step."""
        if self._files is None:
            return
        jsonl, events = self._files
        jsonl.write(_line({"step": step, **metrics}))
        jsonl.flush()
        for name, value in metrics.items():
            events.add_scalar(name, value, step)


def read_metrics(jsonl_path: Path) -> list[dict[str, float]]:
    """Returns the records of a `metrics.jsonl`, oldest first; none where there is no file.

    A last line that was cut off, as by a power failure, is left out.
    """
    if not jsonl_path.exists():
        return []
    records = []
    for line in jsonl_path.read_text(encoding="utf-8").splitlines():
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
