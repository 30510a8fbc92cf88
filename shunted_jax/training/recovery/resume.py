"""Going on where an earlier run in the same folder stopped: from which checkpoint, and whether."""

import dataclasses
import logging
from typing import Any

import jax
from etils import epath

from shunted_jax.checkpoints import FORMAT_VERSION, RunCheckpoints
from shunted_jax.config import Config, differences, to_dict
from shunted_jax.data.pipeline import PIPELINE_VERSION
from shunted_jax.errors import UserError, in_a_line
from shunted_jax.training.devices.sharding import sum_over_hosts
from shunted_jax.training.recovery.digest import changed_arrays, digest
from shunted_jax.training.recovery.provenance import git_revision
from shunted_jax.training.run import Run
from shunted_jax.training.step.state import TrainState

logger = logging.getLogger(__name__)

# Fields of the configuration that may change between two parts of one run, and why. All others
# decide what is learned.
MAY_CHANGE = {
    # How the work is done.
    "config.data.data_dir": "the data may have moved; their number is compared",
    "config.data.num_threads": "batches do not depend on it",
    "config.data.num_workers": "batches do not depend on it",
    "config.mesh.data": "equal within rounding",
    "config.mesh.fsdp": "equal within rounding",
    "config.model.compute": "equal within rounding",
    "config.model.remat": "equal within rounding",
    "config.model.scan_blocks": "equal within rounding, draws included",
    "config.eval_batch_size": "each example counts once whatever its size",
    # When things are looked at and saved.
    "config.eval_every_epochs": "training does not depend on it",
    "config.keep_checkpoints": "training does not depend on it",
    "config.keep_every_epochs": "training does not depend on it",
    "config.log_every_steps": "training does not depend on it",
    "config.save_every_steps": "training does not depend on it",
    # The remedy for what stops a run; up to there, both are the same.
    "config.data.on_bad_image": "the run would have stopped",
    "config.max_bad_steps": "the run would have stopped",
}


@dataclasses.dataclass(frozen=True)
class Resumed:
    """A run's newest checkpoint that can be read.

    Attributes:
        step: the number of updates made.
        state: on the mesh of the run that goes on.
        meta: the JSON values saved with it.
    """

    step: int
    state: TrainState
    meta: dict[str, Any]


def checkpoint_metadata(run: Run, step: int) -> dict[str, Any]:
    """Returns JSON values that say how to rebuild the run as it is after `step`."""
    return run.metadata() | {
        "step": step,
        "data": _data_position(run, step),
        "git": git_revision(),
    }


def restore_newest(run: Run, checkpoints: RunCheckpoints, workdir: epath.Path) -> Resumed | None:
    """Returns the newest checkpoint that can be read; None where none was ever saved.

    Those that cannot be read are named in the log and set aside, once one is found that can be.

    Raises:
        UserError: the checkpoints are those of another run, or none of them can be read.
    """
    damaged = {}
    for step in reversed(checkpoints.steps):
        found, problem = _restore(run, checkpoints, step, workdir)
        # Hosts can differ in what they can read: they go on from the same one.
        if jax.process_count() > 1 and sum_over_hosts(int(problem is not None), run.mesh):
            problem = problem or "another host cannot read it"
        if problem is None:
            _set_aside(run, checkpoints, list(damaged))
            return found
        damaged[step] = problem
        logger.warning("the checkpoint of step %d cannot be read: %s", step, problem)
    if damaged:
        listed = "\n  ".join(f"step {step}: {problem}" for step, problem in damaged.items())
        raise UserError(
            f"none of the checkpoints in {checkpoints.directory} can be read; put back a copy of "
            f"one, or name another --workdir to start over:\n  {listed}"
        )
    return None


def _restore(
    run: Run, checkpoints: RunCheckpoints, step: int, workdir: epath.Path
) -> tuple[Resumed | None, str | None]:
    """Returns the checkpoint, or else what keeps it from being read."""
    try:
        meta = checkpoints.restore_meta(step)
        # First, as another network's parameters look like damaged ones.
        _check_same_run(run, meta, workdir)
        state = checkpoints.restore(step, run.programs.abstract_state)
    except UserError:
        raise
    except Exception as error:  # each kind of damage raises another one, Orbax's own among them
        return None, in_a_line(error)
    if changed := changed_arrays(meta["digest"], digest(state).sums):
        return None, f"not what was saved: {', '.join(changed[:3])}" + (
            f" and {len(changed) - 3} more arrays" if len(changed) > 3 else ""
        )
    return Resumed(step, state, meta), None


def _set_aside(run: Run, checkpoints: RunCheckpoints, steps: list[int]) -> None:
    if not steps:
        return
    if jax.process_index() == 0:
        checkpoints.set_aside(steps)
    sum_over_hosts(0, run.mesh)  # all wait for the first one here
    checkpoints.reload()
    names = ", ".join(f"damaged-{step}" for step in steps)
    logger.warning("moved to %s in %s", names, checkpoints.directory)


def _check_same_run(run: Run, meta: dict[str, Any], workdir: epath.Path) -> None:
    if meta["format_version"] > FORMAT_VERSION:
        raise UserError(
            f"the checkpoints in {workdir} have format {meta['format_version']}, and this program "
            f"reads formats up to {FORMAT_VERSION}: take the program that wrote them"
        )
    if not {"data", "digest"} <= meta.keys():
        raise UserError(
            f"the checkpoints in {workdir} are of an earlier version, which did not save what a "
            "run needs to go on: name another --workdir. To start from what was learned, pass "
            f"--config.init_from={workdir}"
        )
    # A field that is newer than the checkpoint had then the value that it has by default now.
    config = _with_defaults(meta["config"], to_dict(Config()))
    changed = differences(config, to_dict(run.config))
    free = [line for line in changed if line.split(":")[0] in MAY_CHANGE]
    refused = [line for line in changed if line not in free]
    # A row of the registry can have changed below the same name.
    now = run.metadata()
    if not refused:
        models = differences(meta["model"], now["model"], prefix="model")
        refused += [line for line in models if f"config.{line.split(':')[0]}" not in MAY_CHANGE]
        refused += differences(
            {"class_names": meta["class_names"]}, {"class_names": now["class_names"]}, prefix="data"
        )
        position = _data_position(run, meta["data"]["next_batch"])
        refused += differences(meta["data"], position, prefix="data")
    if refused:
        raise UserError(
            f"{workdir} holds a run with another configuration; name another --workdir, or go on "
            "with the one it has:\n  " + "\n  ".join(refused)
        )
    for line in free:
        logger.info("taken over: %s", line)
    for line in differences(meta["versions"], now["versions"], prefix="version of"):
        logger.info("%s: what follows is the same within rounding", line)
    if meta["git"] != git_revision():
        logger.info("revision %s before, %s now", meta["git"], git_revision())


def _data_position(run: Run, step: int) -> dict[str, Any]:
    """Returns what decides the batches to come; the stream is a pure function of it."""
    return {
        "next_batch": step,
        "seed": run.config.seed,
        "batch_size": run.config.batch_size,
        "examples": len(run.train_source),
        "pipeline_version": PIPELINE_VERSION,
    }


def _with_defaults(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    merged = defaults | values
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(values.get(name), dict):
            merged[name] = _with_defaults(values[name], default)
    return merged
