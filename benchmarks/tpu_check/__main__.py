"""Whether the TPU kernels are right and fast: some ten minutes on a TPU tell.

    make tpu-check                                 # on a machine with a TPU
    python -m benchmarks.tpu_check                 # the same, in an environment with jax[tpu]
    python -m benchmarks.tpu_check --small         # tries all of it on a CPU, in a minute

Compares the kernels with the plain form at every shape of 224 pixels, values and gradients, the
network with the published one's measured outputs, and the time of steps with and without kernels.
Prints a block to paste into an issue, and writes the figures as JSON. Each part is a process of its
own, and what fails costs its rows alone.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.tpu_check.report import block
from benchmarks.tpu_check.rows import FAILED, PARTS, Row


def main() -> None:
    """Runs the parts one after another and reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu_check")
    parser.add_argument("--small", action="store_true", help="tiny sizes, on a CPU")
    parser.add_argument("--json", type=Path, default=Path("tpu_check.json"))
    parser.add_argument("--seconds", type=float, default=300, help="a part may take")
    arguments = parser.parse_args()
    rows = []
    for part in PARTS:
        start = time.perf_counter()
        print(f"{part} ...", end=" ", file=sys.stderr, flush=True)
        rows += run_part(part, arguments.small, arguments.seconds)
        print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
        if part == "device" and not arguments.small and rows[0].case != "tpu":
            there = rows[0].text if rows[0].verdict == FAILED else rows[0].case
            sys.exit(
                f"benchmarks.tpu_check: JAX finds no TPU here ({there}); run it on a machine that "
                "has one, with jax[tpu] installed, or try it on a CPU with --small"
            )
    arguments.json.write_text(json.dumps([*map(dataclasses.asdict, rows)], indent=2) + "\n")
    print(block(rows, arguments.small))


def run_part(part: str, small: bool, seconds: float) -> list[Row]:
    """Returns the rows of a part, with one more that says why where it ended early."""
    command = [sys.executable, "-m", "benchmarks.tpu_check.parts", part, *["--small"] * small]
    try:
        ended = subprocess.run(
            command, capture_output=True, timeout=seconds, check=False, env=_environment(small)
        )
        output, why = ended.stdout, _why(ended)
    except subprocess.TimeoutExpired as stopped:
        output, why = stopped.stdout or b"", f"took more than {seconds:.0f} s and was stopped"
    # Whole lines: a process that was stopped may have been about to write one.
    lines = [line for line in output.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
    rows = [Row(**json.loads(line)) for line in lines]
    return (
        [*rows, Row(part, "the rest of it" if rows else "all of it", FAILED, why)] if why else rows
    )


def _environment(small: bool) -> dict[str, str]:
    """Returns a part's; what is small is compiled for longer than it runs."""
    return os.environ | ({"XLA_FLAGS": "--xla_backend_optimization_level=0"} if small else {})


def _why(ended: subprocess.CompletedProcess) -> str | None:
    """Returns how a process ended that did not end well, and the last that it said."""
    if ended.returncode == 0:
        return None
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"status {ended.returncode}"
    said = [line for line in ended.stderr.decode(errors="replace").splitlines() if line.strip()]
    return f"ended with {how}: {said[-1].strip()[:300] if said else 'it said nothing'}"


if __name__ == "__main__":
    main()
