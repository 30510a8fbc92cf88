"""What the bench lets run in turn: one network in one framework, in a process of its own.

    python -m benchmarks.throughput.contestants '{"contestant": "ours", ...}'

Reads a number of seconds a line, runs the step for so long, and answers with a line of JSON: the
seconds it took and the images it did. A line `profile` is answered with the time of each kernel. A
process of its own lets each keep its threads and its memory, and the others' idle ones take no time
of it.

On a GPU a round is as many steps as fill the seconds, all enqueued, and one wait at the end: so do
training and serving use it. On a CPU each step is waited for.
"""

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable

from benchmarks.throughput.cases import OURS, TORCH, TORCH_ON_GPU, Case


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A step that is ready.

    Attributes:
        step: enqueues a step, or runs it.
        wait: until all that was enqueued is done.
        on_gpu: whether steps are enqueued.
        device_kind: the device's name.
        peak_flops: what the device can do a second; None where it is not known.
        device_bytes: the most memory that a step takes of a device that has its own; else None.
        profile: of a number of steps to run; returns the time of each kernel. None: it cannot.
    """

    step: Callable[[], None]
    wait: Callable[[], None]
    on_gpu: bool
    device_kind: str
    peak_flops: float | None = None
    device_bytes: Callable[[], int | None] = lambda: None
    profile: Callable[[int], dict] | None = None


def make(case: Case) -> Contestant:
    """Builds the step of a case, on the GPU where there is one.

    Raises:
        ValueError: there is no such contestant.
    """
    known = (OURS, *TORCH, *TORCH_ON_GPU)
    if case.contestant not in known:
        raise ValueError(f"no contestant is {case.contestant!r}: they are {'; '.join(known)}")
    if case.contestant == OURS:
        from benchmarks.throughput.ours import make as make_side
    else:
        from benchmarks.throughput.pytorch import make as make_side
    return make_side(case)


def run(contestant: Contestant, seconds: float, step_seconds: float) -> tuple[int, float]:
    """Runs a round; returns its steps and the seconds it took.

    Args:
        contestant: what to run.
        seconds: that it takes, roughly.
        step_seconds: that a step takes, by which those to enqueue are counted.
    """
    start, steps = time.perf_counter(), 0
    if contestant.on_gpu:
        steps = max(1, round(seconds / step_seconds))
        for _ in range(steps):
            contestant.step()
        contestant.wait()
    else:
        while not steps or time.perf_counter() - start < seconds:
            contestant.step()
            contestant.wait()
            steps += 1
    return steps, time.perf_counter() - start


def main() -> None:
    """Serves one case on standard input and output."""
    # Whatever a library prints is no answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    case = Case(**json.loads(sys.argv[1]))
    start = time.perf_counter()
    contestant = make(case)
    # The first step compiles; CUDA graphs are recorded in the second and third.
    for _ in range(5 if contestant.on_gpu else 2):
        contestant.step()
        contestant.wait()
    compiled = time.perf_counter()
    contestant.step()
    contestant.wait()
    step_seconds = time.perf_counter() - compiled
    if contestant.on_gpu:
        steps, seconds = run(contestant, 0.2, step_seconds)
        step_seconds = seconds / steps
    ready = {
        "compile_seconds": compiled - start,
        "device": contestant.device_kind,
        "on_gpu": contestant.on_gpu,
        "peak_flops": contestant.peak_flops,
    }
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        if line.strip() == "profile":
            print(json.dumps(contestant.profile(3)), file=answers)
            continue
        steps, seconds = run(contestant, float(line), step_seconds)
        answer = {
            "seconds": seconds,
            "images": steps * case.batch,
            # Of the whole process where the device has no memory of its own.
            "peak_bytes": contestant.device_bytes()
            or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
