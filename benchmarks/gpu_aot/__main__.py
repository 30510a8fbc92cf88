"""Compiles inference and training steps for an H100 without a GPU, and counts what they move.

    python -m benchmarks.gpu_aot                               # shunted_t, batch 128, bfloat16
    python -m benchmarks.gpu_aot --compute auto reference --top 12
    python -m benchmarks.gpu_aot --variants shunted_t shunted_s shunted_b --json=gpu_aot.json
    python -m benchmarks.gpu_aot --part block1 --top 20 --hlo=hlo    # one block, both directions

Needs JAX's plugin for CUDA and cuDNN, and no GPU: docs/performance.md says how to install them. A
program takes minutes, on two cores. They are those of a run with configs/VARIANT.py: AdamW, the
state given up to the step.

- GB moved is counted from the compiled program's text: what each kernel reads and writes, each
  array once, caches left out. `traffic.py` says it exactly.
- kernels are the launches of a step. A library's call counts as one.
- temporary memory is what the compiler reserves besides arguments and results.
- the bound is the batch over the time that these bytes take at the H100's 3.35 TB/s. No program
  reaches it.

Without a GPU XLA measures no tiles and no algorithms. So a program says what is moved, and not how
fast.
"""

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.ahead_of_time import programs
from benchmarks.gpu_aot import target
from benchmarks.gpu_aot.program import Case
from shunted_jax.errors import UserError
from shunted_jax.models import list_models


def main() -> None:
    """Compiles what the flags ask for, prints the tables, writes the figures."""
    arguments = _parser().parse_args()
    try:
        target.prepare()
    except UserError as error:
        sys.exit(f"benchmarks.gpu_aot: {error}")
    cases = list(_cases(arguments))
    figures = [found for case in cases if (found := _measure(case, arguments.hlo))]
    _print_table(figures)
    for row in figures if arguments.top else []:
        _print_largest(row, arguments.top)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if len(figures) < len(cases):
        sys.exit(f"benchmarks.gpu_aot: {len(cases) - len(figures)} of {len(cases)} failed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_aot")

    def several(flag: str, choices, default: list[str], text: str) -> None:
        parser.add_argument(flag, nargs="+", choices=choices, default=default, help=text)

    several("--variants", list_models(), ["shunted_t"], "which networks")
    several("--part", programs.PARTS, ["inference", "train"], "a step, or one block both ways")
    several("--compute", ("auto", "reference"), ["auto"], "reference is plain JAX")
    several("--dtype", ("bfloat16", "float32"), ["bfloat16"], "what to compute in")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--augment", action="store_true", help="train with the recipe's mixing, erasing, drop path"
    )
    parser.add_argument(
        "--top",
        type=int,
        default=0,
        metavar="N",
        help="show the N parts and kernels that move most",
    )
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    parser.add_argument("--hlo", type=Path, help="a folder for the compiled programs' texts")
    return parser


def _cases(arguments: argparse.Namespace) -> Iterator[Case]:
    for variant, part, dtype, compute in itertools.product(
        arguments.variants, arguments.part, arguments.dtype, arguments.compute
    ):
        yield Case(variant, part, arguments.batch, dtype, compute, arguments.augment)


def _measure(case: Case, hlo_folder: Path | None) -> dict[str, Any] | None:
    """Returns the figures of a program; None where its process, which says why, has failed."""
    hlo_file = ""
    if hlo_folder:
        hlo_folder.mkdir(parents=True, exist_ok=True)
        hlo_file = str(hlo_folder / f"{str(case).replace(',', '').replace(' ', '_')}.txt")
    command = [sys.executable, "-m", "benchmarks.gpu_aot.program"]
    child = subprocess.run(
        [*command, json.dumps(dataclasses.asdict(case)), hlo_file], stdout=subprocess.PIPE
    )
    if child.returncode:
        print(f"{case}: failed with status {child.returncode}", file=sys.stderr)
        return None
    return json.loads(child.stdout)


def _print_table(figures: list[dict[str, Any]]) -> None:
    print("H100 SXM5 80GB, 3.35 TB/s\n")
    print("| program | compute | moved | kernels | temporary | bound | compiled in |")
    print("|---|---|---|---|---|---|---|")
    for row in figures:
        print(
            f"| {_program(row)} | {row['compute']} "
            f"| {row['gigabytes_moved']:.1f} GB | {row['kernels']:,} "
            f"| {row['temporary_gigabytes']:.2f} GB "
            f"| {row['bound_images_per_second']:,.0f} images/s | {row['compile_seconds']:.0f} s |"
        )


def _print_largest(row: dict[str, Any], top: int) -> None:
    print(f"\n{_program(row)}, compute {row['compute']}: where the bytes go\n")
    print("| part | moved | kernels |\n|---|---|---|")
    for entry in row["by_part"][:top]:
        print(f"| {entry['part']} | {entry['gigabytes']:.2f} GB | {entry['kernels']:,} |")
    print("\n| kernel | kind | part | moved | times | results |\n|---|---|---|---|---|---|")
    for kernel in row["largest_kernels"][:top]:
        print(
            f"| {kernel['name']} | {kernel['kind']} | {kernel['part']} "
            f"| {kernel['size'] * kernel['times'] / 1e9:.2f} GB | {kernel['times']} "
            f"| {kernel['results']} |"
        )


def _program(row: dict[str, Any]) -> str:
    recipe = ", augmented" if row["augment"] else ""
    return f"{row['variant']} {row['part']}{recipe}, batch {row['batch']}, {row['dtype']}"


if __name__ == "__main__":
    main()
