"""What lies where among checkpoints: a run's folder, its steps, the best of them."""

import json
import os
import zlib
from typing import Any

from etils import epath

from shunted_jax.errors import UserError
from shunted_jax.storage import in_bucket, reachable

BEST_METRIC = "eval/top1"

# What a checkpoint's `meta` item looks like; raised when a reader must know the difference.
FORMAT_VERSION = 1

_CHECKSUM = "checksum"

# A bucket renames nothing, so that what is being saved lies there under its name; Orbax adds this
# once it is whole.
_COMMITTED = "commit_success.txt"


def absolute(path: str | os.PathLike) -> epath.Path:
    """Returns `path` as Orbax takes it, which refuses relative ones.

    Raises:
        UserError: it is in a bucket that cannot be reached.
    """
    # A bucket's paths have nothing that they could be relative to.
    return reachable(path) if in_bucket(path) else epath.Path(path).absolute()


def with_checksum(meta: dict[str, Any]) -> dict[str, Any]:
    """Returns `meta` with a checksum of it, which `read_meta` compares."""
    return meta | {_CHECKSUM: _checksum(meta)}


def read_meta(folder: epath.Path) -> dict[str, Any]:
    """Returns the JSON values in a checkpoint's `meta`.

    Raises:
        ValueError: they are not those that were saved, or no JSON at all.
        OSError: there are none.
    """
    meta = json.loads((folder / "meta" / "metadata").read_text())
    checksum = meta.pop(_CHECKSUM, None)  # converted weights have none
    if checksum not in (None, _checksum(meta)):
        raise ValueError("its metadata do not match their checksum")
    return meta


def replace_meta(folder: epath.Path, meta: dict[str, Any]) -> None:
    """Puts other JSON values into a checkpoint's `meta`; at any moment, it has these or those."""
    path = folder / "meta" / "metadata"
    beside = path if in_bucket(path) else path.with_name("metadata.new")  # objects change at once
    beside.write_text(json.dumps(with_checksum(meta)))
    if beside != path:
        beside.replace(path)


def _checksum(meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def score_of(folder: epath.Path, metric: str = BEST_METRIC) -> float | None:
    """Returns a checkpoint's score; None if it was saved between evaluations or is bad.

    Args:
        folder: of the checkpoint.
        metric: of which more is better.
    """
    try:
        return read_meta(folder).get("metrics", {}).get(metric)
    except (ValueError, OSError):
        return None


def checkpoint_folder(path: epath.Path, step: int | str) -> epath.Path:
    """Returns the folder of one checkpoint.

    Args:
        path: a checkpoint's folder, a run's, or a run's `checkpoints`.
        step: which of a run's checkpoints: a number, "latest", or "best" by `BEST_METRIC`.

    Raises:
        UserError: there is no such checkpoint.
    """
    if _is_checkpoint(path):
        if isinstance(step, int) and path.name != str(step):
            raise UserError(f"{path} is one checkpoint: there is no step {step} to choose in it")
        return path
    run = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = whole_steps(run)
    if not steps:
        kind = "no checkpoint" if path.exists() else "nothing"
        raise UserError(
            f"there is {kind} at {path}: give the folder that convert_weights.py wrote, or a run's"
        )
    if step == "best":
        scores = {saved: score_of(run / str(saved)) for saved in steps}
        return run / str(best_step(scores) or steps[-1])
    if step != "latest" and step not in steps:
        saved = ", ".join(str(known) for known in steps)
        raise UserError(f"{path} has no checkpoint of step {step}; it has {saved}")
    return run / str(steps[-1] if step == "latest" else step)


def best_step(scores: dict[int, float | None]) -> int | None:
    """Returns the step of the highest score, of equal ones the last; None where there is none."""
    scored = {step: score for step, score in scores.items() if score is not None}
    return max(scored, key=lambda step: (scored[step], step)) if scored else None


def whole_steps(run: epath.Path) -> list[int]:
    """Returns the steps of a run's `checkpoints` that are there as a whole, oldest first."""
    if not run.is_dir():
        return []
    return sorted(int(f.name) for f in run.iterdir() if f.name.isdigit() and _is_checkpoint(f))


def _is_checkpoint(path: epath.Path) -> bool:
    if in_bucket(path) and not (path / _COMMITTED).exists():
        return False
    return all((path / item).is_dir() for item in ("params", "batch_stats", "meta"))
