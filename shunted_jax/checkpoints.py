"""Checkpoints on disk or in a bucket: the only module that knows Orbax.

A run's checkpoint of one step is one atomic commit of `params`, `batch_stats`, `train` (step and
optimizer state) and `meta` (JSON). Parameters are items of their own so that they can be read
without the optimizer's state, twice their size.
"""

import os
from typing import Any

import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from shunted_jax.training.state import TrainState

BEST_METRIC = "eval/top1"


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
        self.directory = epath.Path(directory).absolute()

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

    def path(self, step: int) -> epath.Path:
        """Returns the folder of one step's checkpoint."""
        return self.directory / str(step)

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
