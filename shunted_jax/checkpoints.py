"""Checkpoints on disk or in a bucket: the only module that knows Orbax.

A checkpoint is a folder of the items `params`, `batch_stats` and `meta` (JSON). Converted weights
are one such folder. A run has one for each step that it saved, with the item `train` (step and
optimizer state) besides: parameters are items of their own so that they can be read without the
optimizer's state, twice their size. Each is committed as a whole or not at all.
"""

import dataclasses
import os
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from shunted_jax.errors import UserError
from shunted_jax.training.state import TrainState

BEST_METRIC = "eval/top1"

# What a checkpoint's `meta` item looks like; raised when a reader must know the difference.
FORMAT_VERSION = 1


class RunCheckpoints:
    """The checkpoints of a training run: the newest ones and the best, saved in the background.

    Use it as a context manager: leaving it waits for the save under way.
    """

    def __init__(self, directory: str | os.PathLike, keep: int):
        """Opens the folder, making it if needed.

        Args:
            directory: of this run's checkpoints alone.
            keep: how many of the newest to keep; the one with the best `BEST_METRIC` is kept
                besides.
        """
        self.directory = _absolute(directory)

        def best_metric(metrics: dict[str, float]) -> float:
            return metrics[BEST_METRIC]

        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                create=True,
                # Both are needed: the policy decides what stays, best_fn what `best_step` answers.
                best_fn=best_metric,
                preservation_policy=preservation_policy.AnyPreservationPolicy(
                    [
                        preservation_policy.LatestN(keep),
                        preservation_policy.BestN(get_metric_fn=best_metric, n=1),
                    ]
                ),
            ),
        )

    def __enter__(self) -> "RunCheckpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()  # waits for what is being saved

    @property
    def latest_step(self) -> int | None:
        """The newest step saved; None where there is none."""
        return self._manager.latest_step()

    def save(
        self, step: int, state: TrainState, metrics: dict[str, float], meta: dict[str, Any]
    ) -> None:
        """Starts saving `state`; returns once its arrays are copied off the devices.

        Args:
            step: the number of updates made, later than any saved before.
            state: what to save.
            metrics: numbers by name, `BEST_METRIC` among them.
            meta: JSON values that say how to rebuild the model and the run.
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                batch_stats=ocp.args.StandardSave(state.batch_stats),
                train=ocp.args.StandardSave(_train_item(state)),
                meta=ocp.args.JsonSave(meta),
            ),
            metrics=metrics,
        )

    def restore_meta(self, step: int) -> dict[str, Any]:
        """Returns the JSON values saved with a step."""
        restored = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        return restored["meta"]

    def restore(self, step: int, abstract_state: TrainState) -> TrainState:
        """Returns the state saved under `step`.

        Args:
            step: one that was saved.
            abstract_state: `jax.ShapeDtypeStruct` leaves whose shardings say where each array goes,
                on this mesh or another than it was saved from.
        """
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(abstract_state.params),
                batch_stats=ocp.args.StandardRestore(abstract_state.batch_stats),
                train=ocp.args.StandardRestore(_train_item(abstract_state)),
            ),
        )
        return TrainState(
            params=restored["params"], batch_stats=restored["batch_stats"], **restored["train"]
        )


def _train_item(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state}


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a checkpoint says of a network, wherever it was trained.

    Attributes:
        params: nested dicts of numpy arrays.
        batch_stats: likewise.
        meta: JSON values; `meta["model"]` are the network's fields.
    """

    params: dict[str, Any]
    batch_stats: dict[str, Any]
    meta: dict[str, Any]


def write_weights(path: str | os.PathLike, weights: Weights, *, overwrite: bool = False) -> None:
    """Writes a checkpoint of numpy arrays, which loads on any number of devices.

    It is written beside `path` under another name and moved when it is whole: an interruption
    leaves nothing at `path`, or what was there before.

    Args:
        path: the folder to make.
        weights: what to write.
        overwrite: replace what is at `path`.

    Raises:
        UserError: `path` exists and is not to be overwritten.
    """
    path = _absolute(path)
    check_free(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    items = ocp.args.Composite(
        params=ocp.args.StandardSave(weights.params),
        batch_stats=ocp.args.StandardSave(weights.batch_stats),
        meta=ocp.args.JsonSave(weights.meta),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        if _in_bucket(path):  # which renames nothing: there, Orbax marks what is whole
            checkpointer.save(path, items, force=overwrite)
            return
        beside = path.parent / f".{path.name}.incomplete-{os.getpid()}"
        checkpointer.save(beside, items)
    replaced = path.parent / f".{path.name}.replaced-{os.getpid()}"
    if path.exists():
        path.rename(replaced)
    beside.rename(path)
    if replaced.exists():
        replaced.rmtree() if replaced.is_dir() else replaced.unlink()


def check_free(path: str | os.PathLike, overwrite: bool) -> None:
    """Raises UserError where something is at `path` that is not to be overwritten."""
    if epath.Path(path).exists() and not overwrite:
        raise UserError(f"{path} exists already: name another, or replace it with --overwrite")


def read_weights(path: str | os.PathLike, step: int | str = "best") -> Weights:
    """Reads converted weights, a run's folder, or one of its steps, into numpy arrays.

    Args:
        path: a checkpoint's folder, a run's, or a run's `checkpoints`; local or in a bucket.
        step: which of a run's checkpoints: a number, "latest", or "best" by `BEST_METRIC`.

    Raises:
        UserError: there is no checkpoint at `path`, or none of that step, or it cannot be read.
    """
    folder = _checkpoint_folder(_absolute(path), step)
    handlers = ocp.CompositeCheckpointHandler(
        params=ocp.PyTreeCheckpointHandler(),
        batch_stats=ocp.PyTreeCheckpointHandler(),
        meta=ocp.JsonCheckpointHandler(),
    )
    try:
        with ocp.Checkpointer(handlers) as checkpointer:
            saved = checkpointer.metadata(folder).item_metadata
            items = checkpointer.restore(
                folder,
                ocp.args.Composite(
                    params=_as_numpy(saved["params"]),
                    batch_stats=_as_numpy(saved["batch_stats"]),
                    meta=ocp.args.JsonRestore(),
                ),
            )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"the checkpoint {folder} cannot be read: {error}") from error
    return Weights(items["params"], items["batch_stats"], items["meta"])


def _in_bucket(path: str | os.PathLike) -> bool:
    return "://" in os.fspath(path)


def _absolute(path: str | os.PathLike) -> epath.Path:
    # Orbax refuses relative paths; a bucket's have nothing that they could be relative to.
    return epath.Path(path) if _in_bucket(path) else epath.Path(path).absolute()


def _as_numpy(saved: Any) -> ocp.args.PyTreeRestore:
    # Asked for as numpy arrays, they do not need the devices that they were saved from.
    args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved.tree)
    return ocp.args.PyTreeRestore(restore_args=args)


def _checkpoint_folder(path: epath.Path, step: int | str) -> epath.Path:
    if _is_checkpoint(path):
        if isinstance(step, int) and path.name != str(step):
            raise UserError(f"{path} is one checkpoint: there is no step {step} to choose in it")
        return path
    run = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = []
    if run.is_dir():
        steps = sorted(int(f.name) for f in run.iterdir() if f.name.isdigit() and _is_checkpoint(f))
    if not steps:
        kind = "no checkpoint" if path.exists() else "nothing"
        raise UserError(
            f"there is {kind} at {path}: give the folder that convert_weights.py wrote, or a run's"
        )
    if step == "best":
        return run / str(_best_step(run, steps))
    if step != "latest" and step not in steps:
        saved = ", ".join(str(known) for known in steps)
        raise UserError(f"{path} has no checkpoint of step {step}; it has {saved}")
    return run / str(steps[-1] if step == "latest" else step)


def _is_checkpoint(path: epath.Path) -> bool:
    return all((path / item).is_dir() for item in ("params", "batch_stats", "meta"))


def _best_step(run: epath.Path, steps: list[int]) -> int:
    with ocp.CheckpointManager(
        run,
        options=ocp.CheckpointManagerOptions(
            read_only=True, best_fn=lambda metrics: metrics[BEST_METRIC]
        ),
    ) as manager:
        best = manager.best_step()
    return best if best in steps else steps[-1]
