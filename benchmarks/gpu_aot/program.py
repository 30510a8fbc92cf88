"""Compiles one program for the GPU and counts what it does: a process of its own.

`python -m benchmarks.gpu_aot` starts one for each program. What the compiler holds is then given
back, and a compiler that dies ends one program alone.
"""

import collections
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.ahead_of_time import programs
from benchmarks.ahead_of_time.progress import progress
from benchmarks.gpu_aot import target
from benchmarks.gpu_aot.kernels import Kernel, kernels
from shunted_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compiled: one combination of the flags."""

    variant: str
    part: str
    batch: int
    dtype: str
    compute: str
    augment: bool

    def __str__(self) -> str:
        recipe = " with augmentation" if self.augment else ""
        return (
            f"{self.variant} {self.part}{recipe}, batch {self.batch}, {self.dtype}, "
            f"compute {self.compute}"
        )


def main() -> None:
    """Takes a case, and a file for the program's text or an empty name; prints the figures."""
    case, hlo_file = Case(**json.loads(sys.argv[1])), sys.argv[2]
    try:
        target.prepare()
        figures = _measure(case, Path(hlo_file) if hlo_file else None)
    except UserError as error:
        sys.exit(f"benchmarks.gpu_aot: {error}")
    print(json.dumps(figures))


def _measure(case: Case, hlo_file: Path | None) -> dict[str, Any]:
    start = time.perf_counter()
    with progress(f"compiling {case}"):
        compiled = _compile(case)
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    if hlo_file:
        hlo_file.write_text(text)
    found = kernels(text)
    return dataclasses.asdict(case) | {
        "compile_seconds": round(seconds, 1),
        "temporary_gigabytes": compiled.memory_analysis().temp_size_in_bytes / 1e9,
        **count(found, case.batch),
        "by_part": by("part", found),
        "by_kind": by("kind", found),
        "largest_kernels": [
            dataclasses.asdict(kernel)
            for kernel in sorted(found, key=lambda kernel: kernel.total, reverse=True)[:100]
        ],
    }


def _compile(case: Case):
    return programs.lower(
        case.variant,
        case.part,
        [target.device()],
        batch_per_device=case.batch,
        dtype=case.dtype,
        compute=case.compute,
        augment=case.augment,
    ).compile()


def count(found: list[Kernel], batch: int) -> dict[str, Any]:
    """Returns the totals of a program that takes a batch of so many images."""
    moved = sum(kernel.total for kernel in found)
    return {
        "gigabytes_moved": moved / 1e9,
        "kernels": sum(kernel.times for kernel in found),
        "bound_images_per_second": batch * target.BANDWIDTH / moved,
    }


def by(field: str, found: list[Kernel]) -> list[dict[str, Any]]:
    """Returns the gigabytes and kernels of each part or kind, the largest first."""
    moved, runs = collections.Counter(), collections.Counter()
    for kernel in found:
        moved[getattr(kernel, field)] += kernel.total
        runs[getattr(kernel, field)] += kernel.times
    return [
        {field: name, "gigabytes": total / 1e9, "kernels": runs[name]}
        for name, total in moved.most_common()
    ]


if __name__ == "__main__":
    main()
