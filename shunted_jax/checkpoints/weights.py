"""A network's parameters and statistics on disk, without the run that made them."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from shunted_jax.checkpoints.damage import DamagedError, read_patiently
from shunted_jax.checkpoints.folders import checkpoint_folder, read_meta, with_checksum
from shunted_jax.checkpoints.hosts import alone
from shunted_jax.checkpoints.metadata import Metadata
from shunted_jax.checkpoints.read_back import read_back
from shunted_jax.errors import RunError, UserError
from shunted_jax.locks import alone_at
from shunted_jax.resources import check_writable, writing_into
from shunted_jax.storage import absolute, in_bucket, reachable, written_aside

logger = logging.getLogger(__name__)

_ARRAYS = ("params", "batch_stats")


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

    def changed(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> "Weights":
        """Returns weights with what `change` makes of the parameters, and of their average."""
        averaged = None if self.ema_params is None else change(self.ema_params)
        return dataclasses.replace(self, params=change(self.params), ema_params=averaged)


def write_weights(path: str | os.PathLike, weights: Weights, *, overwrite: bool = False) -> None:
    """Writes a checkpoint of numpy arrays, which loads on any number of devices.

    It is written beside `path` under another name, and moved when it is whole and has been opened
    again: an interruption leaves nothing at `path`, or what was there before.

    Args:
        path: the folder to make.
        weights: what to write.
        overwrite: replace what is at `path`.

    Raises:
        UserError: `path` exists and is not to be overwritten, or cannot be a checkpoint's.
        LockError: another process writes there.
        RunError: it cannot be read back, or the disk or bucket does not take it.
    """
    path = absolute(path)
    check_free(path, overwrite)
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_at(path):
            check_free(path, overwrite)  # again: another process may have been done a moment ago
            if in_bucket(path):  # which renames nothing: there, Orbax marks what is whole
                _save(path, weights, overwrite)
                return
            with written_aside(path) as beside:
                _save(beside, weights)


def _save(path: epath.Path, weights: Weights, overwrite: bool = False) -> None:
    items = ocp.args.Composite(
        params=ocp.args.StandardSave(weights.params),
        batch_stats=ocp.args.StandardSave(weights.batch_stats),
        meta=ocp.args.JsonSave(with_checksum(weights.meta)),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(path, items, force=overwrite)
    read_back(path, _ARRAYS)


def check_free(path: str | os.PathLike, overwrite: bool, *, file: bool = False) -> None:
    """Raises UserError where nothing can be made at `path`, or what is there is to stay.

    Args:
        path: of a file or a folder to make.
        overwrite: whether what this program made there before may be replaced.
        file: whether it is to be a file.
    """
    there = reachable(path)
    if there.exists():
        if not overwrite:
            raise UserError(f"{path} exists already: name another, or replace it with --overwrite")
        if not (there.is_file() if file else _is_made_here(there)):
            of = "a file" if file else "a checkpoint of converted weights or a folder to share"
            raise UserError(
                f"{path} is not {of}, and --overwrite replaces nothing else: name another, or "
                "remove it yourself"
            )
    elif not in_bucket(there) and os.path.islink(there):
        raise UserError(f"{path} is a link to what is not there: name another, or remove it")
    if not in_bucket(there):
        check_writable(there.parent)


def _is_made_here(path: epath.Path) -> bool:
    """Whether a folder can be made again: it is empty, converted weights, or a folder to share."""
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    whole = {"params", "batch_stats", "meta"} <= names or {
        "model.safetensors",
        "config.json",
    } <= names
    return not names or (whole and "train" not in names)  # which a run's checkpoints have


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
    while True:
        folder, best_by = checkpoint_folder(absolute(path), step)
        try:
            meta, trees = _read_items(folder)
            break
        except (DamagedError, RunError) as error:
            if isinstance(step, str) and folder.parent.exists() and not folder.exists():
                continue  # the run goes on, and has cleared it away for a newer one or a better one
            if isinstance(error, RunError):
                raise
            raise UserError(f"the checkpoint {folder} cannot be read: {error}") from error
    if best_by is not None:
        logger.info("taking step %s of %s, the best by %s", folder.name, path, best_by)
    # Converted weights may lie in a folder that is called 2024.
    saved_at = int(folder.name) if meta.run is not None and folder.name.isdecimal() else None
    return Weights(**trees, meta=meta, step=saved_at, best_by=best_by)


def _read_items(folder: epath.Path) -> tuple[Metadata, dict[str, Any]]:
    names = [*_ARRAYS]
    if (folder / "ema_params").is_dir():
        names.append("ema_params")
    meta = read_meta(folder)
    return meta, read_patiently(lambda: {name: _read_tree(folder / name) for name in names}, folder)


def _read_tree(folder: epath.Path) -> dict[str, Any]:
    with contextlib.closing(ocp.PyTreeCheckpointHandler(multiprocessing_options=alone())) as reader:
        saved = reader.metadata(folder).tree
        # Asked for as numpy arrays, they do not need the devices that they were saved from.
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=args))
