"""Which of a run's checkpoints stay when a newer one is saved."""

import dataclasses
import math

from shunted_jax.checkpoints.folders import best_step


@dataclasses.dataclass
class Preservation:
    """Which checkpoints stay; the same answer on every host.

    Attributes:
        metrics: of each step, as `metrics_of` returns them; empty where it was not evaluated.
        keep: how many of the newest.
        every: keep one of each so many steps besides; None keeps no more.
    """

    metrics: dict[int, tuple[dict[str, float], str]]
    keep: int
    every: float | None

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """Returns for each of the checkpoints whether it stays; Orbax calls this."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        best, _ = best_step({step: self.metrics[step] for step in steps if step in self.metrics})
        kept = steps_to_keep(steps, best, self.keep, self.every)
        return [step in kept for step in steps]


def steps_to_keep(steps: list[int], best: int | None, keep: int, every: float | None) -> set[int]:
    """Returns the newest `keep` of `steps`, the best, and the first at or after k * `every`."""
    steps = sorted(steps)
    kept = set(steps[-keep:]) | ({best} - {None})
    if every is not None:
        # From the last backwards, so that of each interval the first is left.
        firsts = {math.floor(step / every): step for step in reversed(steps)}
        kept.update(step for interval, step in firsts.items() if interval > 0)
    return kept
