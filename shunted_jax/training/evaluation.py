"""Scoring a state on the whole evaluation split, exact to the example."""

import dataclasses

import jax
import numpy as np

from shunted_jax.data.pipeline import eval_batches
from shunted_jax.training.metrics import Mean
from shunted_jax.training.run import Run
from shunted_jax.training.sharding import put_batch
from shunted_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the network made of the evaluation split.

    Attributes:
        metrics: `loss`, `top1` and `top5`, over every example once.
        labels: int32 [examples], in the split's order.
        predictions: int32 [examples], likewise.
    """

    metrics: dict[str, Mean]
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
    batches = eval_batches(
        run.eval_source,
        run.eval_transform,
        batch_size=run.config.eval_batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    outputs = [run.programs.eval_step(state, put_batch(batch, run.mesh)) for batch in batches]
    all_metrics, rows = zip(*jax.device_get(outputs), strict=True)
    totals = all_metrics[0]
    for metrics in all_metrics[1:]:
        totals = {name: totals[name] + mean for name, mean in metrics.items()}
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    examples = slice(len(run.eval_source))  # padding lies behind the last one
    return Evaluation(totals, columns["label"][examples], columns["prediction"][examples])
