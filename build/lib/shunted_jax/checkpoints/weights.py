"""A network's parameters and statistics on disk, without the run that made them."""

import contextlib
import dataclasses
import logging
import os
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from shunted_jax.checkpoints.damage import DamagedError, read_patiently
from shunted_jax.checkpoints.folders import checkpoint_folder, read_meta, with_checksum
from shunted_jax.checkpoints.hosts import alone
from shunted_jax.checkpoints.metadata import Metadata
from shunted_jax.errors import UserError
from shunted_jax.storage import absolute, in_bucket, reachable

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a checkpoint says of a network, wherever it was trained.

    Attributes:
        params: nested dicts of numpy arrays.
        batch_stats: likewise.
        meta: what the checkpoint says of itself.
        ema_params: the moving average of a run's parameters, in the form of `params`; None where
            there is none.
        step: of the run that they were saved in; None for converted weights.
        best_by: the metric by which this step is its run's best; None where nothing was ranked.
    """

    params: dict[str, Any]
    batch_stats: dict[str, Any]
    meta: Metadata
    ema_params: dict[str, Any] | None = None
    step: int | None = None
    best_by: str | None = None


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
        meta=ocp.args.JsonSave(with_checksum(weights.meta)),
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
        step: which of a run's checkpoints: a number, "latest", or "best" by the metric that the
            run names, `eval_ema/top1` where it keeps an average and `eval/top1` otherwise.

    Raises:
        UserError: there is no checkpoint at `path`, or none of that step, it is damaged, or a newer
            program wrote it.
        RunError: it cannot be read, for a reason that may pass.
    """
    folder, best_by = checkpoint_folder(absolute(path), step)
    names = ["params", "batch_stats"]
    if (folder / "ema_params").is_dir():
        names.append("ema_params")
    try:
        meta = read_meta(folder)
        trees = read_patiently(lambda: {name: _read_tree(folder / name) for name in names}, folder)
    except DamagedError as error:
        raise UserError(f"the checkpoint {folder} cannot be read: {error}") from error
    if best_by is not None:
        logger.info("taking step %s of %s, the best by %s", folder.name, path, best_by)
    saved_at = int(folder.name) if folder.name.isdigit() else None
    return Weights(**trees, meta=meta, step=saved_at, best_by=best_by)


def _read_tree(folder: epath.Path) -> dict[str, Any]:
    with contextlib.closing(ocp.PyTreeCheckpointHandler(multiprocessing_options=alone())) as reader:
        saved = reader.metadata(folder).tree
        # Asked for as numpy arrays, they do not need the devices that they were saved from.
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=args))
