"""Carries out a step in its own process and notes what became of it."""

import numpy as np

from benchmarks.child import Child, ChildError, python
from benchmarks.gpu_check.plan import Network, Script
from benchmarks.gpu_check.record import Record
from benchmarks.throughput.measure import alone


def run_script(step: Script, seconds: float, record: Record) -> None:
    """Runs a script; each line that it writes is a row at once.

    Args:
        step: what to run.
        seconds: that it may take.
        record: where its rows go.
    """
    record.say(f"{step}: at most {seconds:.0f} s")
    command = python(f"benchmarks.gpu_check.{step.part}", *step.arguments)
    with Child(command, seconds, step.environment()) as child:
        try:
            for row in child.answers():
                record.add({"step": str(step), **row})
        except ChildError as failure:
            record.fail(str(step), str(failure), child.errors())


def run_network(step: Network, seconds: float, record: Record) -> None:
    """Times a contestant; its figures are kept before it is profiled."""
    record.say(f"{step}: at most {seconds:.0f} s")
    outcome = alone(
        step.case,
        step.rounds,
        step.seconds,
        seconds,
        with_kernels=step.with_kernels,
        say=record.add_outcome,
    )
    record.add_outcome(outcome)
    row = {"step": str(step)}
    if outcome.rounds:
        row["images_per_second"] = float(np.median(outcome.rates()))
        row["compile_seconds"] = outcome.ready["compile_seconds"]
        row["GiB"] = outcome.rounds[-1]["peak_bytes"] / 2**30
    if outcome.kernels:
        shown = ("kernel_ms", "kernels_a_step", "failed")
        row |= {f"profile_{key}": outcome.kernels[key] for key in shown if key in outcome.kernels}
    record.add(row)
    if outcome.failed:
        record.fail(str(step), outcome.failed, outcome.errors)
