"""The checkpoints of a training run: saved in the background, the older ones cleared away."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterable
from typing import Any, NoReturn

import jax
import orbax.checkpoint as ocp

from shunted_jax.checkpoints.failures import why_not_written
from shunted_jax.checkpoints.folders import (
    metrics_of,
    read_meta,
    read_meta_once,
    replace_meta,
    with_checksum,
)
from shunted_jax.checkpoints.hosts import alone
from shunted_jax.checkpoints.metadata import Metadata
from shunted_jax.checkpoints.preservation import Preservation
from shunted_jax.errors import RunError
from shunted_jax.storage import absolute

logger = logging.getLogger(__name__)

# Fields of the state that are items of their own; all others go into the item `train`.
_OWN_ITEMS = ("params", "batch_stats", "ema_params")


class RunCheckpoints:
    """The checkpoints of a training run; all hosts make the same calls.

    Use it as a context manager: leaving it waits for the save under way.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        keep: int,
        keep_every_steps: float | None = None,
    ):
        """Opens the folder, making it if needed; what an interrupted save left is cleared away.

        Args:
            directory: of this run's checkpoints alone.
            keep: how many of the newest to keep; the best one is kept besides, by the metric that
                the newest names.
            keep_every_steps: also keep the first checkpoint at or after each multiple of this.

        Raises:
            RunError: the scores of what is there cannot be read, for a reason that may pass.
        """
        self.directory = absolute(directory)
        self._metrics: dict[int, tuple[dict[str, float], str]] = {}  # as `metrics_of` returns them
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                create=True,
                cleanup_tmp_directories=True,
                # Not Orbax's own policy of the best, nor its metrics: where one file of them is
                # damaged, it opens none of the checkpoints.
                preservation_policy=Preservation(self._metrics, keep, keep_every_steps),
            ),
        )
        try:
            self._read_metrics()
        except BaseException:
            self._manager.close()  # its threads
            raise

    def __enter__(self) -> "RunCheckpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self._manager.close()  # waits for what is being saved
        except Exception as failure:
            if error is None:
                self.raise_reason(failure)
            if not isinstance(error, RunError):  # which says the same already
                logger.exception("the last checkpoint could not be saved")

    @property
    def steps(self) -> list[int]:
        """The steps saved, oldest first; a damaged one is among them."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """The newest step saved; None where there is none."""
        return self._manager.latest_step()

    def save(self, state: Any, meta: Metadata) -> None:
        """Starts saving `state`; returns once its arrays are copied off the devices.

        Args:
            state: a dataclass of arrays, or of nested dicts and tuples of them; fields that are
                None are left out.
            meta: how to rebuild the model and the run; its step is later than any saved before.

        Raises:
            RunError: there is no room for this checkpoint or there was none for the one before it.
        """
        items = {name: ocp.args.StandardSave(item) for name, item in _items(state).items()}
        run = meta.run
        self._metrics[run.step] = run.metrics, run.best_by
        try:
            self._manager.save(
                run.step,
                args=ocp.args.Composite(**items, meta=ocp.args.JsonSave(with_checksum(meta))),
                force=True,
            )
        except Exception as error:
            self.raise_reason(error)

    def add_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Puts the numbers of an evaluation into a checkpoint that was saved without."""
        self._metrics[step] = metrics, self._metrics[step][1]
        folder = self.directory / str(step)
        if jax.process_index() == 0:
            meta = read_meta(folder)
            run = dataclasses.replace(meta.run, metrics=metrics)
            replace_meta(folder, dataclasses.replace(meta, run=run))

    def wait(self) -> None:
        """Returns once the last save is on disk.

        Raises:
            RunError: there was no room for it.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self.raise_reason(error)

    def restore_meta(self, step: int) -> Metadata:
        """Returns what the checkpoint of a step says of itself; in one try, as `restore`."""
        return read_meta_once(self.directory / str(step))

    def restore(self, step: int, abstract_state: Any) -> Any:
        """Returns the state saved under `step`; this host waits for a save, and for no other host.

        Args:
            step: one that was saved.
            abstract_state: of the saved state's type, with `jax.ShapeDtypeStruct` leaves whose
                shardings say where each array goes, on this mesh or another than it was saved from.
        """
        self.wait()
        fields = {}
        for name, item in _items(abstract_state).items():
            folder = self.directory / str(step) / name
            handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone())
            with contextlib.closing(handler):
                fields[name] = handler.restore(folder, args=ocp.args.StandardRestore(item))
        return dataclasses.replace(abstract_state, **fields.pop("train"), **fields)

    def set_aside(self, steps: Iterable[int]) -> None:
        """Renames damaged checkpoints to `damaged-STEP`; one host calls it, then all `reload`."""
        for step in steps:
            name, number = f"damaged-{step}", 1
            while (self.directory / name).exists():
                number += 1
                name = f"damaged-{step}-{number}"
            try:
                (self.directory / str(step)).rename(self.directory / name)
            except Exception as error:
                self.raise_reason(error)

    def reload(self) -> None:
        """Looks again at what is there, after another host has set some aside."""
        self._manager.reload()
        self._read_metrics()

    def _read_metrics(self) -> None:
        self._metrics.clear()
        for step in self.steps:
            self._metrics[step] = metrics_of(self.directory / str(step))

    def raise_reason(self, error: Exception) -> NoReturn:
        """Raises `error`; as a `RunError` that says what to do, if disk or bucket are to blame."""
        sentence = why_not_written(error, self.directory)
        if sentence is None:
            raise error
        raise RunError(sentence) from error


def _items(state: Any) -> dict[str, Any]:
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    own = {name: fields.pop(name) for name in _OWN_ITEMS if name in fields}
    train = {name: value for name, value in fields.items() if value is not None}
    return {name: item for name, item in own.items() if item is not None} | {"train": train}
