"""Scoring parameters on the whole evaluation split, exact to the example."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from shunted_jax.data.sources import Source
from shunted_jax.tasks import Scores, Task
from shunted_jax.training.devices.prefetch import prefetch_to_device
from shunted_jax.training.run import Run
from shunted_jax.training.step.state import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a state is worth on the evaluation split.

    Attributes:
        scores: of its parameters.
        averaged: of their moving average; None where none is kept.
    """

    scores: Scores
    averaged: Scores | None = None

    def values(self) -> dict[str, float]:
        """Returns the numbers by name, as `metrics.jsonl` holds them."""
        values = {f"eval/{name}": value for name, value in self.scores.values().items()}
        if self.averaged is not None:
            of_average = self.averaged.values().items()
            values |= {f"eval_ema/{name}": value for name, value in of_average}
        return values

    def headline(self) -> str:
        """Returns the score that counts, with its name."""
        name, text = next(iter(self.scores.texts().items()))
        return f"{name} {text}"

    def in_a_line(self, epoch: float) -> str:
        """Returns the score after so many epochs, for a person."""
        loss = self.scores.values()["loss"]
        return f"epoch {epoch:.1f}: test {self.headline()}, loss {loss:.4f}"

    def in_lines(self, what: str = "") -> list[str]:
        """Returns each score in a line of its own, the loss behind the last.

        Args:
            what: stands in front of each.
        """
        lines = [f"{what}{name}  {text}" for name, text in self.scores.texts().items()]
        lines[-1] += f", loss {self.scores.values()['loss']:.4f}"
        return lines


def evaluate(run: Run, state: TrainState, stop: Callable[[], bool]) -> Evaluation | None:
    """Scores a run's state, and the moving average of its parameters where it keeps one.

    Every host calls it and gets the same.

    Args:
        run: what is trained on what.
        state: after some step.
        stop: asked after each batch whether to break off; the same on all hosts.

    Returns:
        The evaluation; None where it was broken off.
    """
    candidates = [state.variables]
    if state.ema_params is not None:
        candidates.append(state.averaged_variables)
    return score_all(candidates, run.programs.eval_step, run.task, run.eval_source, run.mesh, stop)


def score_all(
    candidates: Sequence[dict[str, Any]],
    eval_step: Callable[..., Any],
    task: Task,
    source: Source,
    mesh: Mesh,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Scores parameters, and their moving average, on the same images, each read once.

    Args:
        candidates: variables in their shards: first those of the parameters, then, where one is
            kept, those of the moving average.
        eval_step: as `programs.Programs` has it.
        task: what they were trained for.
        source: what to score them on.
        mesh: as `sharding.make_mesh` returns it.
        stop: asked after each batch whether to break off; the same on all hosts.

    Returns:
        The evaluation; None where it was broken off.
    """
    batches = task.eval_batches(source)
    outputs = []
    with contextlib.closing(batches):
        for batch in prefetch_to_device(batches, mesh):
            outputs.append(
                jax.device_get([eval_step(variables, batch) for variables in candidates])
            )
            if stop():
                return None
    return Evaluation(*(task.sum_up(of_candidate) for of_candidate in zip(*outputs, strict=True)))
