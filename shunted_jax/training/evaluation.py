"""Scoring a state on the whole evaluation split, exact to the example."""

import contextlib
import dataclasses

import jax
import numpy as np

from shunted_jax.data.pipeline import eval_batches
from shunted_jax.training.metrics import Mean
from shunted_jax.training.prefetch import prefetch_to_device
from shunted_jax.training.run import Run
from shunted_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the network made of the evaluation split.

    Attributes:
        metrics: `loss`, `top1` and `top5`, over every example once.
        indices: int64 [examples], which of the split they are, in its order: all of it but for
            images that could not be decoded.
        labels: int32 [examples].
        predictions: int32 [examples].
    """

    metrics: dict[str, Mean]
    indices: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray

    def values(self) -> dict[str, float]:
        """Returns the means by name, as `metrics.jsonl` holds them."""
        return {f"eval/{name}": mean.value for name, mean in self.metrics.items()}

    def top1_text(self) -> str:
        """Returns top-1 with its count, as in `99.17 % (357 of 360)`."""
        top1 = self.metrics["top1"]
        return f"{100 * top1.value:.2f} % ({int(top1.total):,} of {int(top1.count):,})"


def evaluate(run: Run, state: TrainState) -> Evaluation:
    """Runs the evaluation step over the evaluation split; every host calls it and gets the same."""
    config = run.config
    batches = eval_batches(
        run.eval_source,
        run.eval_transform,
        batch_size=config.eval_batch_size,
        on_bad_image=config.data.on_bad_image,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=config.data.num_workers,
        num_threads=config.data.num_threads,
    )
    with contextlib.closing(batches):
        outputs = [
            jax.device_get(run.programs.eval_step(state, batch))
            for batch in prefetch_to_device(batches, run.mesh)
        ]
    all_metrics, all_rows = zip(*outputs, strict=True)
    totals = all_metrics[0]
    for metrics in all_metrics[1:]:
        totals = {name: totals[name] + mean for name, mean in metrics.items()}
    rows = {name: np.concatenate([row[name] for row in all_rows]) for name in all_rows[0]}
    indices = np.flatnonzero(rows["mask"])
    return Evaluation(totals, indices, rows["label"][indices], rows["prediction"][indices])
