"""How far a run is: a bar on a terminal, plain lines where there is none."""

import datetime
import logging
import sys
import time

import tqdm

from shunted_jax.terminal import on_terminal

logger = logging.getLogger(__name__)


class Progress:
    """Shows steps, loss, images a second and the time left. Use it as a context manager.

    An evaluation happens between `update` and `resume_clock`. It is left out of the pace. The time
    left has evaluations in it, as many a step as there were so far.
    """

    def __init__(self, first_step: int, last_step: int, batch_size: int, *, bar: bool = True):
        """Starts the clock.

        Args:
            first_step: how many steps are done already.
            last_step: how many there are in all.
            batch_size: images in a step, over all hosts.
            bar: False shows no bar, as for all hosts but the first.
        """
        self._last_step = last_step
        self._batch_size = batch_size
        self._first_step = self._shown_step = first_step
        self._window_start = self._update_end = time.perf_counter()
        self._paused_seconds = 0.0
        self._bar = tqdm.tqdm(
            total=last_step,
            initial=first_step,
            disable=not (bar and on_terminal()),
            bar_format="{percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt} steps{postfix}",
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def update(self, step: int, loss: float) -> dict[str, float]:
        """Shows that `step` is done.

        Returns:
            The pace since the last call: `images_per_second` and `step_seconds`.
        """
        now = time.perf_counter()
        steps = step - self._shown_step
        step_seconds = (now - self._window_start) / steps
        images_per_second = self._batch_size / step_seconds
        to_come = self._last_step - step
        with_pauses = step_seconds + self._paused_seconds / (step - self._first_step)
        left = datetime.timedelta(seconds=round(to_come * with_pauses))
        if self._shown_step == self._first_step and to_come:
            self.say(
                f"at {step_seconds:.3g} s a step, the {to_come:,} steps to come take about {left}, "
                "and evaluations besides"
            )
        text = f"loss {loss:.3f}, {images_per_second:,.0f} images/s, {left} left"
        if self._bar.disable:
            logger.info("step %d of %d: %s", step, self._last_step, text)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(steps)
        self._shown_step, self._window_start, self._update_end = step, now, now
        return {"images_per_second": images_per_second, "step_seconds": step_seconds}

    def say(self, text: str) -> None:
        """Logs a line without breaking the bar."""
        if self._bar.disable:
            logger.info(text)
        else:
            self._bar.write(text, file=sys.stderr)

    def resume_clock(self) -> None:
        """Leaves what was done since the last `update` out of the pace; call it after a pause."""
        self._window_start = time.perf_counter()
        self._paused_seconds += self._window_start - self._update_end
