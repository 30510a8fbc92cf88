"""Where a checkpoint comes from: the run, its place in the data, the program, for its metadata."""

import functools
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

from shunted_jax.checkpoints import Metadata, RunRecord
from shunted_jax.config import to_dict
from shunted_jax.data.pipeline import PIPELINE_VERSION
from shunted_jax.models.architecture import architecture_of
from shunted_jax.training.run import Run

_PACKAGE = Path(__file__).parents[2]
# Those that decide the result.
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets")


def describe(run: Run, step: int, **known: Any) -> Metadata:
    """Returns what a checkpoint of `run` says of itself.

    Args:
        run: what is trained on what.
        step: the number of updates made.
        **known: fields of `RunRecord` that the run's state decides.
    """
    return Metadata(
        model=architecture_of(run.model),
        class_names=list(run.train_source.class_names),
        run=RunRecord(
            config=to_dict(run.config),
            step=step,
            best_by=best_by(run),
            data=position_in_data(run, step),
            git=git_revision(),
            versions={name: importlib.metadata.version(name) for name in _PACKAGES},
            **known,
        ),
    )


def best_by(run: Run) -> str:
    """Returns which metric a run's checkpoints are ranked by."""
    # Who keeps an average of the parameters does so to use it.
    scored = "eval" if run.config.ema_decay is None else "eval_ema"
    return f"{scored}/{run.task.best_metric}"


def position_in_data(run: Run, step: int) -> dict[str, Any]:
    """Returns what decides the batches to come; the stream is a pure function of it."""
    return {
        "next_batch": step,
        "seed": run.config.seed,
        "batch_size": run.config.batch_size,
        "examples": len(run.train_source),
        "pipeline_version": PIPELINE_VERSION,
    }


@functools.cache
def git_revision() -> dict[str, Any] | None:
    """Returns {"commit", "dirty"} of the checkout that this package runs from; None if installed.

    `dirty` says that files git knows differ from that commit.
    """
    root = _git("rev-parse", "--show-toplevel")
    # An installed package may lie in a checkout too, that of whoever installed it.
    if not root or Path(root).resolve() != _PACKAGE.parent.resolve():
        return None
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)} if commit else None


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(_PACKAGE), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
