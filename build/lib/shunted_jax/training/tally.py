"""What the steps since the last line of `metrics.jsonl` add up to, and whether all was finite."""

import math
from typing import Any

import jax
import numpy as np

from shunted_jax.tasks.metrics import Mean, Metrics
from shunted_jax.training.step.bad_steps import BAD_STEPS


class Tally:
    """Sums the metrics of steps until they are asked for.

    Attributes:
        bad_steps: how many steps were skipped since the run began.
    """

    def __init__(self, max_bad_steps: int, saved: dict[str, Any] | None = None):
        """Starts where a checkpoint left off.

        Args:
            max_bad_steps: as in the configuration.
            saved: what `to_json` returned when the checkpoint was saved.
        """
        saved = saved or {}
        self._max_bad_steps = max_bad_steps
        self._recent: list[tuple[int, Metrics]] = []  # as the devices will have them
        self._totals = {
            name: Mean(np.float32(total), np.float32(count))
            for name, (total, count) in saved.get("totals", {}).items()
        }
        self.bad_steps = saved.get("bad_steps", 0)

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes in a step's metrics; waits for the step before the last one.

        So the host is never more than two steps ahead of the devices: their memory holds a batch
        for each.
        """
        self._recent.append((step, metrics))
        jax.block_until_ready(self._recent[-3:-2])

    def settle(self) -> None:
        """Waits for all steps so far and looks at them.

        Raises:
            FloatingPointError: one was not finite, or more than may be skipped were not.
        """
        recent, self._recent = jax.device_get(self._recent), []
        for step, metrics in recent:
            self._check(step, metrics)
            for name, mean in metrics.items():
                if name != BAD_STEPS:
                    totals = self._totals
                    totals[name] = totals[name] + mean if name in totals else mean

    def means(self) -> dict[str, float]:
        """Returns the means over the steps since the last call. Means of no step are left out."""
        self.settle()
        means = {f"train/{name}": mean.value for name, mean in self._totals.items() if mean.count}
        self._totals.clear()
        if self._max_bad_steps:
            means[f"train/{BAD_STEPS}"] = self.bad_steps
        return means

    def to_json(self) -> dict[str, Any]:
        """Returns what the next part of the run needs to log what this one would have."""
        self.settle()
        totals = {name: [float(m.total), float(m.count)] for name, m in self._totals.items()}
        return {"totals": totals, "bad_steps": self.bad_steps}

    def _check(self, step: int, metrics: Metrics) -> None:
        if BAD_STEPS in metrics:
            self.bad_steps += int(metrics[BAD_STEPS].total)
            if self.bad_steps > self._max_bad_steps:
                raise FloatingPointError(
                    f"the loss or the gradients of step {step} are not finite, and "
                    f"config.max_bad_steps={self._max_bad_steps} steps were skipped for that "
                    "already: take a lower config.optimizer.learning_rate, or a "
                    "config.optimizer.clip_norm"
                )
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name].total):
                raise FloatingPointError(
                    f"the {name} is {metrics[name].value} at step {step}: nothing was saved since "
                    "the last checkpoint before it; take a lower config.optimizer.learning_rate, "
                    "a config.optimizer.clip_norm, or skip such steps with config.max_bad_steps"
                )
