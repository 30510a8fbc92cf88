"""How long a run may take as a whole, and what it left out."""

import time


class Budget:
    """Minutes that are shared out in order, the first to ask first."""

    def __init__(self, minutes: float | None, reserve: float = 0):
        """Starts the clock.

        Args:
            minutes: in all; None is without end.
            reserve: seconds of them to keep for the end.
        """
        self._start = time.monotonic()
        self._seconds = float("inf") if minutes is None else 60 * minutes - reserve
        self.left_out: list[str] = []

    def elapsed(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self._start

    def left(self) -> float:
        """Returns the seconds that are left."""
        return self._seconds - self.elapsed()

    def grant(self, name: str, limit: float, least: float = 0) -> float | None:
        """Returns how many seconds something may take, or None where too few are left.

        Args:
            name: of it, noted where it is left out.
            limit: what it may take at most.
            least: what it needs to be worth beginning.
        """
        left = self.left()
        if left <= least:
            self.left_out.append(name)
            return None
        return min(limit, left)
