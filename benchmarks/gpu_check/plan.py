"""What is done, in which order, and how long each step may take."""

import dataclasses
import os
from collections.abc import Collection, Iterator

from benchmarks.throughput.cases import OURS, Case

# Names for `--parts`. `kernels` belongs to the networks: it profiles ours after timing it.
PARTS = ("machine", "goldens", "networks", "kernels", "forms", "digits")

# Whether a result is right does not depend on the tilings that XLA would take a minute to choose.
_QUICK = "--xla_gpu_autotune_level=0"
_COMPILED = "compile channels_last"
_GRAPHS = "compile channels_last, CUDA graphs"
_TUNED = "compile channels_last, max-autotune"
_EAGER = "channels_last"


@dataclasses.dataclass(frozen=True)
class Script:
    """A module of this folder, whose lines of JSON are figures.

    Attributes:
        part: of the check, and the module's name.
        arguments: of the module.
        limit: the seconds that it may take.
        autotune: whether XLA chooses among tilings.
        least: the seconds below which it is not begun.
    """

    part: str
    arguments: tuple[str, ...] = ()
    limit: float = 60
    autotune: bool = True
    least: float = 10

    def __str__(self) -> str:
        return " ".join([self.part, *self.arguments])

    def environment(self) -> dict[str, str]:
        """Returns the variables that it gets."""
        if self.autotune:
            return {}
        return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {_QUICK}".strip()}


@dataclasses.dataclass(frozen=True)
class Network:
    """A whole network as a contestant.

    Attributes:
        case: what is run.
        limit: the seconds that it may take, compilation included.
        rounds: that are timed.
        seconds: that a round takes.
        with_kernels: whether it is profiled as well.
        least: the seconds below which it is not begun.
    """

    case: Case
    limit: float
    rounds: int = 5
    seconds: float = 0.5
    with_kernels: bool = False
    least: float = 20
    part = "networks"

    def __str__(self) -> str:
        return f"{self.case}, {self.case.contestant}"


def plan(parts: Collection[str], small: bool) -> Iterator[Script | Network]:
    """Yields the steps of the parts, most valuable first.

    Args:
        parts: some of `PARTS`.
        small: tiny sizes, for a CPU.
    """
    for step in _steps(small, "kernels" in parts):
        if step.part in parts:
            # Two cores compile longer than a GPU's machine does.
            yield dataclasses.replace(step, limit=4 * step.limit) if small else step


def _steps(small: bool, with_kernels: bool) -> Iterator[Script | Network]:
    flags = ("--small",) if small else ()

    def network(variant: str, mode: str, contestant: str, limit: float) -> Network:
        batch, size, rounds = (2, 32, 2) if small else (128, 224, 5)
        threads = len(os.sched_getaffinity(0))
        # PyTorch takes seconds for an image in bfloat16 on many CPUs.
        dtype = "float32" if small else "bfloat16"
        case = Case(contestant, variant, mode, batch, size, dtype, threads)
        seconds = 0.1 if small else 0.5
        return Network(case, limit, rounds, seconds, with_kernels and contestant == OURS)

    yield Script("machine", flags, limit=60)
    yield Script("goldens", ("eval",), limit=90, autotune=False)
    yield network("shunted_t", "inference", OURS, 120)
    yield network("shunted_t", "inference", _GRAPHS, 120)
    yield network("shunted_t", "training", OURS, 210)
    yield network("shunted_t", "training", _GRAPHS, 150)
    yield network("shunted_t", "inference", _COMPILED, 120)
    yield network("shunted_t", "training", _COMPILED, 150)
    yield network("shunted_t", "inference", _EAGER, 60)
    yield network("shunted_t", "training", _EAGER, 60)
    yield Script("forms", flags, limit=120)
    yield Script("goldens", ("training",), limit=120, autotune=False)
    yield network("shunted_t", "inference", _TUNED, 150)
    yield network("shunted_t", "training", _TUNED, 180)
    yield Script("digits", flags, limit=150, autotune=False)
    yield network("shunted_s", "inference", OURS, 150)
    yield network("shunted_s", "inference", _GRAPHS, 150)
    yield network("shunted_s", "training", OURS, 240)
    yield network("shunted_s", "training", _GRAPHS, 180)
    yield network("shunted_s", "inference", _EAGER, 60)
    yield network("shunted_s", "training", _EAGER, 60)
