"""A network's parameters and statistics on disk, without the run that made them."""

import dataclasses
import os
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from shunted_jax.checkpoints.folders import absolute, checkpoint_folder
from shunted_jax.errors import UserError
from shunted_jax.storage import in_bucket, reachable


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a checkpoint says of a network, wherever it was trained.

    Attributes:
        params: nested dicts of numpy arrays.
        batch_stats: likewise.
        meta: JSON values; `meta["model"]` are the network's fields.
        ema_params: the moving average of a run's parameters, in the form of `params`; None where
            there is none.
        step: of the run that they were saved in; None for converted weights.
    """

    params: dict[str, Any]
    batch_stats: dict[str, Any]
    meta: dict[str, Any]
    ema_params: dict[str, Any] | None = None
    step: int | None = None


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
    path = absolute(path)
    check_free(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    items = ocp.args.Composite(
        params=ocp.args.StandardSave(weights.params),
        batch_stats=ocp.args.StandardSave(weights.batch_stats),
        meta=ocp.args.JsonSave(weights.meta),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        if in_bucket(path):  # which renames nothing: there, Orbax marks what is whole
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
    if reachable(path).exists() and not overwrite:
        raise UserError(f"{path} exists already: name another, or replace it with --overwrite")


def read_weights(path: str | os.PathLike, step: int | str = "best") -> Weights:
    """Reads converted weights, a run's folder, or one of its steps, into numpy arrays.

    Args:
        path: a checkpoint's folder, a run's, or a run's `checkpoints`; local or in a bucket.
        step: which of a run's checkpoints: a number, "latest", or "best" by `BEST_METRIC`.

    Raises:
        UserError: there is no checkpoint at `path`, or none of that step, or it cannot be read.
    """
    folder = checkpoint_folder(absolute(path), step)
    trees = ["params", "batch_stats"]
    if (folder / "ema_params").is_dir():
        trees.append("ema_params")
    try:
        # One by one: of a folder as a whole, Orbax warns of each item that is not asked for.
        items = {name: _read_arrays(folder / name) for name in trees}
        meta = ocp.JsonCheckpointHandler().restore(folder / "meta")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"the checkpoint {folder} cannot be read: {error}") from error
    return Weights(**items, meta=meta, step=int(folder.name) if folder.name.isdigit() else None)


def _read_arrays(item: epath.Path) -> dict[str, Any]:
    handler = ocp.PyTreeCheckpointHandler()
    saved = handler.metadata(item).tree
    # Asked for as numpy arrays, they do not need the devices that they were saved from.
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
    return handler.restore(item, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
