"""Going on where an earlier run in the same folder stopped: from which checkpoint, and whether."""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
from etils import epath

from shunted_jax.checkpoints import Metadata, RunCheckpoints, RunRecord
from shunted_jax.checkpoints.damage import DAMAGED, FINE, HINDERED, DamagedError, read_patiently
from shunted_jax.config import Config, differences, to_dict
from shunted_jax.errors import UserError
from shunted_jax.models.architecture import differences_between, network_of
from shunted_jax.retired import RETIRED
from shunted_jax.training.devices.sharding import add_over_hosts, sum_over_hosts
from shunted_jax.training.recovery.digest import changed_arrays, digest
from shunted_jax.training.recovery.provenance import describe, position_in_data
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

# Fields that earlier programs had: what they were set to makes no difference.
IGNORED = tuple(f"config.model.{name}" for name in RETIRED)


@dataclasses.dataclass(frozen=True)
class Resumed:
    """A run's newest checkpoint that can be read.

    Attributes:
        step: the number of updates made.
        state: on the mesh of the run that goes on.
        record: what was saved with it; an empty one where the run starts.
    """

    step: int
    state: TrainState
    record: RunRecord = dataclasses.field(default_factory=lambda: RunRecord(config={}))


def restore_newest(run: Run, checkpoints: RunCheckpoints, workdir: epath.Path) -> Resumed | None:
    """Returns the newest checkpoint that is not damaged; None where none was ever saved.

    The damaged ones are named in the log and set aside, once one is found that is not.

    Raises:
        UserError: the checkpoints are those of another run, or all of them are damaged.
        RunError: one cannot be read, for a reason that may pass; all are left in place.
    """
    damaged = {}
    for step in reversed(checkpoints.steps):
        try:
            found = _restore(run, checkpoints, step, workdir)
        except DamagedError as error:
            damaged[step] = error
            logger.warning("the checkpoint of step %d cannot be read: %s", step, error)
            continue
        _set_aside(run, checkpoints, list(damaged))
        return found
    if damaged:
        listed = "\n  ".join(f"step {step}: {problem}" for step, problem in damaged.items())
        raise UserError(
            f"none of the checkpoints in {checkpoints.directory} can be read; put back a copy of "
            f"one, or name another --workdir to start over:\n  {listed}"
        )
    return None


def _restore(run: Run, checkpoints: RunCheckpoints, step: int, workdir: epath.Path) -> Resumed:
    """Returns a checkpoint, or raises DamagedError, on all hosts alike."""

    def read() -> tuple[Metadata, TrainState]:
        meta = checkpoints.restore_meta(step)
        # First, as another network's parameters look like damaged ones.
        _check_same_run(run, meta, workdir)
        return meta, checkpoints.restore(step, run.programs.abstract_state)

    def agree(verdict: int) -> int:
        """Returns the worst verdict of any host, as all go on from the same checkpoint."""
        if jax.process_count() == 1:
            return verdict
        mine = np.array([verdict == DAMAGED, verdict == HINDERED], np.int32)
        damaged, hindered = np.asarray(add_over_hosts(mine, run.mesh))
        return HINDERED if hindered else DAMAGED if damaged else FINE

    meta, state = read_patiently(read, checkpoints.directory / str(step), agree)
    # Every host has read it, and all of them add up its digest.
    if changed := changed_arrays(meta.run.digest, digest(state).sums):
        more = f" and {len(changed) - 3} more arrays" if len(changed) > 3 else ""
        raise DamagedError(f"not what was saved: {', '.join(changed[:3])}{more}")
    return Resumed(step, state, meta.run)


def _set_aside(run: Run, checkpoints: RunCheckpoints, steps: list[int]) -> None:
    if not steps:
        return
    if jax.process_index() == 0:
        checkpoints.set_aside(steps)
    sum_over_hosts(0, run.mesh)  # all wait for the first one here
    checkpoints.reload()
    names = ", ".join(f"damaged-{step}" for step in steps)
    logger.warning("moved to %s in %s", names, checkpoints.directory)


def _check_same_run(run: Run, meta: Metadata, workdir: epath.Path) -> None:
    saved = meta.run
    if saved is None or saved.data is None or saved.digest is None:
        raise UserError(
            f"the checkpoints in {workdir} are of an earlier version, which did not save what a "
            "run needs to go on: name another --workdir. To start from what was learned, pass "
            f"--config.init_from={workdir}"
        )
    # A field that is newer than the checkpoint had then the value that it has by default now.
    config = _with_defaults(saved.config, to_dict(Config()))
    changed = [
        (line.split(":")[0], line)
        for line in differences(config, to_dict(run.config))
        if line.split(":")[0] not in IGNORED
    ]
    refused = [line for name, line in changed if name not in MAY_CHANGE]
    now = describe(run, saved.step)
    if not refused:
        # A row of the registry can have changed below the same name.
        there = network_of(meta.model, workdir)
        refused += [
            f"model.{name}: {before!r} before, {value!r} now"
            for name, before, value in differences_between(there, run.model)
        ]
        refused += differences(
            {"class_names": meta.class_names}, {"class_names": now.class_names}, prefix="data"
        )
        position = position_in_data(run, saved.data["next_batch"])
        refused += differences(saved.data, position, prefix="data")
    if refused:
        raise UserError(
            f"{workdir} holds a run with another configuration; name another --workdir, or go on "
            "with the one it has:\n  " + "\n  ".join(refused)
        )
    for name, line in changed:
        if name in MAY_CHANGE:
            logger.info("taken over: %s", line)
    for line in differences(saved.versions, now.run.versions, prefix="version of"):
        logger.info("%s: what follows is the same within rounding", line)
    if saved.git != now.run.git:
        logger.info("revision %s before, %s now", saved.git, now.run.git)


def _with_defaults(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    merged = defaults | values
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(values.get(name), dict):
            merged[name] = _with_defaults(values[name], default)
    return merged
