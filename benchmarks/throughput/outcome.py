"""What became of a contestant in a case, and the rounds it ran."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator

import numpy as np

from benchmarks.child import Child, ChildError, python
from benchmarks.throughput.cases import Case

# What a contestant's process runs.
MODULE = "benchmarks.throughput.contestants"


@dataclasses.dataclass
class Outcome:
    """A contestant's answers.

    Attributes:
        case: what it ran.
        ready: what it said when it had compiled; None where it did not come so far.
        rounds: the seconds, images and memory of each round.
        kernels: where a step's time went, if that was asked for.
        failed: why it ended early; None where it did not.
        errors: the last lines of what it wrote then.
    """

    case: Case
    ready: dict | None = None
    rounds: list[dict] = dataclasses.field(default_factory=list)
    kernels: dict | None = None
    failed: str | None = None
    errors: str = ""

    def rates(self) -> np.ndarray:
        """Returns images a second of each round."""
        return np.array([one["images"] / one["seconds"] for one in self.rounds])


class Running:
    """A contestant in its process. Where it ends early, its outcome says why and no more runs."""

    def __init__(self, case: Case, seconds: float):
        """Starts it; it compiles.

        Args:
            case: what to run.
            seconds: it may take, compilation included.
        """
        self.outcome = Outcome(case)
        text = json.dumps(dataclasses.asdict(case))
        self._child = Child(python(MODULE, text), seconds)

    def wait(self) -> None:
        """Waits until it has compiled."""
        with self._noted():
            self.outcome.ready = self._child.answer()

    def run(self, seconds: float) -> None:
        """Runs one round."""
        if self.outcome.failed is None:
            with self._noted():
                self.outcome.rounds.append(self._child.ask(str(seconds)))

    def profile(self) -> None:
        """Asks for the time of each kernel; its rounds count also where this fails."""
        if self.outcome.failed is None:
            try:
                self.outcome.kernels = self._child.ask("profile")
            except ChildError as failure:
                self.outcome.kernels = {"failed": str(failure)}
                self.outcome.errors = self._child.errors()

    def close(self) -> None:
        """Ends the process."""
        self._child.close()

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except ChildError as failure:
            self.outcome.failed, self.outcome.errors = str(failure), self._child.errors()
