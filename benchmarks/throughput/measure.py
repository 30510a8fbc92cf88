"""Lets the contestants of a case run: in turn on a CPU, one after the other on a GPU.

What slows a shared CPU down lasts longer than a round, so all compile at once and their rounds are
in turn. On a GPU each is alone while it compiles, as compilers time kernels there, and while it is
timed.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from benchmarks.budget import Budget
from benchmarks.throughput.cases import Case
from benchmarks.throughput.outcome import Outcome, Running


def in_turn(
    cases: Sequence[Case], rounds: int, seconds: float, limit: float, budget: Budget
) -> list[Outcome]:
    """Runs all contestants of a case at the same time, their rounds in turn.

    Args:
        cases: one for each contestant.
        rounds: that each runs.
        seconds: that a round takes.
        limit: of seconds for each, compilation included.
        budget: of the whole run.

    Returns:
        What became of those that the budget allowed to start.
    """
    with contextlib.ExitStack() as stack:
        running = []
        for case in cases:
            granted = budget.grant(f"{case}, {case.contestant}", limit)
            if granted is not None:
                running.append(Running(case, granted))
                stack.callback(running[-1].close)
        for one in running:
            one.wait()
        for _ in range(rounds):
            for one in running:
                one.run(seconds)
    return [one.outcome for one in running]


def one_by_one(
    cases: Sequence[Case], rounds: int, seconds: float, limit: float, budget: Budget
) -> Iterator[Outcome]:
    """Yields what became of each contestant, which had the device to itself; see `in_turn`."""
    for case in cases:
        granted = budget.grant(f"{case}, {case.contestant}", limit)
        if granted is not None:
            yield alone(case, rounds, seconds, granted)


def alone(
    case: Case,
    rounds: int,
    seconds: float,
    limit: float,
    *,
    with_kernels: bool = False,
    say: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Runs one contestant.

    Args:
        case: what to run.
        rounds: that it runs.
        seconds: that a round takes.
        limit: of seconds, compilation included.
        with_kernels: whether to profile it as well, after its rounds.
        say: called when its rounds are done, before the profile.
    """
    running = Running(case, limit)
    try:
        running.wait()
        for _ in range(rounds):
            running.run(seconds)
        say(running.outcome)
        if with_kernels:
            running.profile()
    finally:
        running.close()
    return running.outcome
