"""Scoring parameters on the whole evaluation split, exact to the example."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from shunted_jax.config import Config
from shunted_jax.data.pipeline import eval_batches
from shunted_jax.data.sources import Source
from shunted_jax.data.transforms import EvalTransform
from shunted_jax.training.devices.prefetch import prefetch_to_device
from shunted_jax.training.run import Run
from shunted_jax.training.step.metrics import Mean
from shunted_jax.training.step.state import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the network made of the evaluation split.

    Attributes:
        metrics: `loss`, `top1` and `top5`, over every example once.
        indices: int64 [examples], which of the split they are, in its order: all of it but for
            images that could not be decoded.
        labels: int32 [examples].
        predictions: int32 [examples].
        averaged: the same of the parameters' moving average; None where none is kept.
    """

    metrics: dict[str, Mean]
    indices: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    averaged: "Evaluation | None" = None

    def values(self) -> dict[str, float]:
        """Returns the means by name, as `metrics.jsonl` holds them."""
        values = {f"eval/{name}": mean.value for name, mean in self.metrics.items()}
        if self.averaged is not None:
            means = self.averaged.metrics.items()
            values |= {f"eval_ema/{name}": mean.value for name, mean in means}
        return values

    def top1_text(self) -> str:
        """Returns top-1 with its count, as in `99.17 % (357 of 360)`."""
        top1 = self.metrics["top1"]
        return f"{100 * top1.value:.2f} % ({int(top1.total):,} of {int(top1.count):,})"

    def in_a_line(self, epoch: float) -> str:
        """Returns the score after so many epochs, for a person."""
        loss = self.metrics["loss"].value
        return f"epoch {epoch:.1f}: test top-1 {self.top1_text()}, loss {loss:.4f}"


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
    scores = score_all(
        candidates,
        run.programs.eval_step,
        run.eval_source,
        run.eval_transform,
        run.config,
        run.mesh,
        stop,
    )
    if scores is None:
        return None
    first, *averaged = scores
    return dataclasses.replace(first, averaged=averaged[0] if averaged else None)


def score_all(
    candidates: Sequence[dict[str, Any]],
    eval_step: Callable[..., Any],
    source: Source,
    transform: EvalTransform,
    config: Config,
    mesh: Mesh,
    stop: Callable[[], bool] = lambda: False,
) -> list[Evaluation] | None:
    """Scores several sets of variables on the same images, each read once.

    Args:
        candidates: variables in their shards.
        eval_step: as `programs.Programs` has it.
        source: what to score them on.
        transform: from an encoded image to what the network is given.
        config: `eval_batch_size` and how to read the data.
        mesh: as `sharding.make_mesh` returns it.
        stop: asked after each batch whether to break off; the same on all hosts.

    Returns:
        An evaluation for each of the candidates; None where it was broken off.
    """
    batches = eval_batches(
        source,
        transform,
        batch_size=config.eval_batch_size,
        on_bad_image=config.data.on_bad_image,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=config.data.num_workers,
        num_threads=config.data.num_threads,
    )
    outputs = []
    with contextlib.closing(batches):
        for batch in prefetch_to_device(batches, mesh):
            outputs.append(
                jax.device_get([eval_step(variables, batch) for variables in candidates])
            )
            if stop():
                return None
    return [_summed(of_candidate) for of_candidate in zip(*outputs, strict=True)]


def _summed(outputs: Sequence[tuple[dict[str, Mean], dict[str, np.ndarray]]]) -> Evaluation:
    all_metrics, all_rows = zip(*outputs, strict=True)
    totals = all_metrics[0]
    for metrics in all_metrics[1:]:
        totals = {name: totals[name] + mean for name, mean in metrics.items()}
    rows = {name: np.concatenate([row[name] for row in all_rows]) for name in all_rows[0]}
    indices = np.flatnonzero(rows["mask"])
    return Evaluation(totals, indices, rows["label"][indices], rows["prediction"][indices])
