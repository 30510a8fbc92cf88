"""How far a preparation is: a bar on a terminal, a line now and then where there is none."""

import datetime
import logging
import time

import tqdm

from shunted_jax.terminal import on_terminal

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30


class Counter:
    """Shows what is done of a total, the pace and the time left. Use it as a context manager."""

    def __init__(self, title: str, total: int, done: int = 0, unit: str = "images"):
        """Starts the clock.

        Args:
            title: what is being done.
            total: how much there is in all.
            done: how much an earlier call has done; left out of the pace.
            unit: of what.
        """
        self._title, self._total, self._unit = title, total, unit
        self._first = self._done = done
        self._start = self._last_line = time.perf_counter()
        self._bar = tqdm.tqdm(
            total=total,
            initial=done,
            unit=f" {unit}",
            disable=not on_terminal(),
            bar_format=f"{title} {{percentage:3.0f}}% |{{bar}}| {{n_fmt}} of {{total_fmt}} {unit}, "
            "{rate_noinv_fmt}, {remaining} left",
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def update(self, count: int) -> None:
        """Adds `count` to what is done."""
        self._done += count
        self._bar.update(count)
        now = time.perf_counter()
        is_last = self._done == self._total
        if self._bar.disable and (is_last or now - self._last_line >= _SECONDS_BETWEEN_LINES):
            self._last_line = now
            pace = (self._done - self._first) / max(now - self._start, 1e-9)
            left = datetime.timedelta(seconds=round((self._total - self._done) / max(pace, 1e-9)))
            logger.info(
                "%s: %s of %s %s, %s %s/s, %s left",
                self._title,
                f"{self._done:,}",
                f"{self._total:,}",
                self._unit,
                f"{pace:,.0f}",
                self._unit,
                left,
            )
