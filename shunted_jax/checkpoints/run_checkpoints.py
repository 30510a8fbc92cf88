"""The checkpoints of a training run: saved in the background, the older ones cleared away."""

import dataclasses
import logging
import math
import os
from collections.abc import Iterable
from typing import Any, NoReturn

import jax
import orbax.checkpoint as ocp

from shunted_jax.checkpoints.failures import why_not_written
from shunted_jax.checkpoints.folders import (
    BEST_METRIC,
    absolute,
    best_step,
    read_meta,
    replace_meta,
    score_of,
    with_checksum,
)
from shunted_jax.errors import RunError
from shunted_jax.training.step.state import TrainState

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
        *,
        best_metric: str = BEST_METRIC,
    ):
        """Opens the folder, making it if needed; what an interrupted save left is cleared away.

        Args:
            directory: of this run's checkpoints alone.
            keep: how many of the newest to keep; the one with the best score is kept besides.
            keep_every_steps: also keep the first checkpoint at or after each multiple of this.
            best_metric: the score: the metric of which more is better.
        """
        self._best_metric = best_metric
        self.directory = absolute(directory)
        self._scores: dict[int, float | None] = {}
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                create=True,
                cleanup_tmp_directories=True,
                # Not Orbax's own policy of the best, nor its metrics: one file of them damaged, and
                # it opens none of the checkpoints.
                preservation_policy=_Preservation(self._scores, keep, keep_every_steps),
            ),
        )
        self._read_scores()

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

    def save(
        self, step: int, state: TrainState, metrics: dict[str, float], meta: dict[str, Any]
    ) -> None:
        """Starts saving `state`; returns once its arrays are copied off the devices.

        Args:
            step: the number of updates made, later than any saved before.
            state: what to save.
            metrics: numbers by name, the score among them; empty between evaluations.
            meta: JSON values that say how to rebuild the model and the run.

        Raises:
            RunError: there is no room for this checkpoint or there was none for the one before it.
        """
        items = {name: ocp.args.StandardSave(item) for name, item in _items(state).items()}
        self._scores[step] = metrics.get(self._best_metric)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **items, meta=ocp.args.JsonSave(with_checksum(meta | {"metrics": metrics}))
                ),
                force=True,
            )
        except Exception as error:
            self.raise_reason(error)

    def add_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Puts the numbers of an evaluation into a checkpoint that was saved without."""
        self._scores[step] = metrics.get(self._best_metric)
        folder = self.directory / str(step)
        if jax.process_index() == 0:
            replace_meta(folder, read_meta(folder) | {"metrics": metrics})

    def wait(self) -> None:
        """Returns once the last save is on disk.

        Raises:
            RunError: there was no room for it.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self.raise_reason(error)

    def restore_meta(self, step: int) -> dict[str, Any]:
        """Returns the JSON values saved with a step."""
        return read_meta(self.directory / str(step))

    def restore(self, step: int, abstract_state: TrainState) -> TrainState:
        """Returns the state saved under `step`.

        Args:
            step: one that was saved.
            abstract_state: `jax.ShapeDtypeStruct` leaves whose shardings say where each array goes,
                on this mesh or another than it was saved from.
        """
        items = {
            name: ocp.args.StandardRestore(item) for name, item in _items(abstract_state).items()
        }
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        fields = {name: restored[name] for name in items}
        return abstract_state.replace(**fields.pop("train"), **fields)

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
        self._read_scores()

    def _read_scores(self) -> None:
        self._scores.clear()
        for step in self.steps:
            self._scores[step] = score_of(self.directory / str(step), self._best_metric)

    def raise_reason(self, error: Exception) -> NoReturn:
        """Raises `error`; as a `RunError` that says what to do, if disk or bucket are to blame."""
        sentence = why_not_written(error, self.directory)
        if sentence is None:
            raise error
        raise RunError(sentence) from error


@dataclasses.dataclass
class _Preservation:
    """Which checkpoints stay; the same answer on every host.

    Attributes:
        scores: of each step; None of those that were not evaluated.
        keep: how many of the newest.
        every: see `RunCheckpoints`.
    """

    scores: dict[int, float | None]
    keep: int
    every: float | None

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = steps_to_keep(steps, self.scores, self.keep, self.every)
        return [step in kept for step in steps]


def steps_to_keep(
    steps: list[int], scores: dict[int, float | None], keep: int, every: float | None
) -> set[int]:
    """Returns the newest `keep` of `steps`, the best, and the first at or after k * `every`."""
    steps = sorted(steps)
    kept = set(steps[-keep:])
    if (best := best_step({step: scores.get(step) for step in steps})) is not None:
        kept.add(best)
    if every is not None:
        # From the last backwards, so that of each interval the first is left.
        firsts = {math.floor(step / every): step for step in reversed(steps)}
        kept.update(step for interval, step in firsts.items() if interval > 0)
    return kept


def _items(state: TrainState) -> dict[str, Any]:
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    own = {name: fields.pop(name) for name in _OWN_ITEMS if name in fields}
    train = {name: value for name, value in fields.items() if value is not None}
    return {name: item for name, item in own.items() if item is not None} | {"train": train}
