"""What lies where among checkpoints: a run's folder, its steps, the best of them."""

import json
import zlib
from typing import Any

from etils import epath

from shunted_jax.adapters.orbax import COMMITTED, JSON_FILE
from shunted_jax.checkpoints.damage import DamagedError, read_patiently
from shunted_jax.checkpoints.metadata import BEST_METRIC, Metadata
from shunted_jax.errors import UserError
from shunted_jax.storage import in_bucket

_CHECKSUM = "checksum"


def with_checksum(meta: Metadata) -> dict[str, Any]:
    """Returns the JSON values of `meta` with a checksum of them, which `read_meta` compares."""
    values = meta.to_json()
    return values | {_CHECKSUM: _checksum(values)}


def read_meta(folder: epath.Path) -> Metadata:
    """Returns what a checkpoint says of itself.

    Raises:
        DamagedError: it is not what was saved, or there is nothing.
        RunError: it cannot be read, for a reason that may pass.
        UserError: a newer program wrote it.
    """
    return read_patiently(lambda: read_meta_once(folder), folder)


def read_meta_once(folder: epath.Path) -> Metadata:
    """Does what `read_meta` does in one try, and raises whatever comes of it."""
    values = json.loads((folder / "meta" / JSON_FILE).read_text())
    checksum = values.pop(_CHECKSUM, None)  # converted weights of format 1 have none
    if checksum not in (None, _checksum(values)):
        raise ValueError("its metadata do not match their checksum")
    return Metadata.from_json(values, folder)


def replace_meta(folder: epath.Path, meta: Metadata) -> None:
    """Puts another `meta` into a checkpoint; at any moment, it has this one or the one before."""
    path = folder / "meta" / JSON_FILE
    beside = path if in_bucket(path) else path.with_name("metadata.new")  # objects change at once
    beside.write_text(json.dumps(with_checksum(meta)))
    if beside != path:
        beside.replace(path)


def _checksum(values: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def metrics_of(folder: epath.Path) -> tuple[dict[str, float], str]:
    """Returns a checkpoint's metrics, none if it is damaged, and which one its run ranks by.

    Raises:
        RunError: they cannot be read, for a reason that may pass.
    """
    try:
        run = read_meta(folder).run
    except DamagedError:
        run = None
    return ({}, BEST_METRIC) if run is None else (run.metrics, run.best_by)


def checkpoint_folder(path: epath.Path, step: int | str) -> tuple[epath.Path, str | None]:
    """Returns the folder of one checkpoint, and the metric by which it was chosen, if any was.

    Args:
        path: a checkpoint's folder, a run's, or a run's `checkpoints`.
        step: which of a run's checkpoints: a number, "latest", or "best", see `best_step`. Where
            none was evaluated, the latest is the best.

    Raises:
        UserError: there is no such checkpoint.
        RunError: the scores cannot be read, for a reason that may pass.
    """
    if _is_checkpoint(path):
        if isinstance(step, int) and path.name != str(step):
            raise UserError(f"{path} is one checkpoint: there is no step {step} to choose in it")
        return path, None
    run = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = whole_steps(run)
    if not steps:
        kind = "no checkpoint" if path.exists() else "nothing"
        raise UserError(
            f"there is {kind} at {path}: give the folder that convert_weights.py wrote, or a run's"
        )
    if step == "best":
        best, by = best_step({saved: metrics_of(run / str(saved)) for saved in steps})
        return (run / str(steps[-1]), None) if best is None else (run / str(best), by)
    if step != "latest" and step not in steps:
        saved = ", ".join(str(known) for known in steps)
        raise UserError(f"{path} has no checkpoint of step {step}; it has {saved}")
    return run / str(steps[-1] if step == "latest" else step), None


def best_step(found: dict[int, tuple[dict[str, float], str]]) -> tuple[int | None, str]:
    """Returns the step with the highest score, of equal ones the last, and what it is ranked by.

    All are ranked by what the newest of them names, so that a run has one order. The step is None
    where none has that score.

    Args:
        found: what `metrics_of` returned of each step.
    """
    evaluated = [step for step, (metrics, _) in found.items() if metrics]
    by = found[max(evaluated)][1] if evaluated else BEST_METRIC
    scored = {step: metrics[by] for step, (metrics, _) in found.items() if by in metrics}
    return max(scored, key=lambda step: (scored[step], step), default=None), by


def whole_steps(run: epath.Path) -> list[int]:
    """Returns the steps of a run's `checkpoints` that are there as a whole, oldest first."""
    if not run.is_dir():
        return []
    return sorted(int(f.name) for f in run.iterdir() if f.name.isdigit() and _is_checkpoint(f))


def _is_checkpoint(path: epath.Path) -> bool:
    if in_bucket(path) and not (path / COMMITTED).exists():
        return False
    return all((path / item).is_dir() for item in ("params", "batch_stats", "meta"))
