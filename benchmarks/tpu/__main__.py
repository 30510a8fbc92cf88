"""Compiles the training and inference steps for TPUs without one, and says what they cost.

    python -m benchmarks.tpu                                    # shunted_t, one v5e chip
    python -m benchmarks.tpu --compute auto pallas --json=docs/tpu_aot.json
    python -m benchmarks.tpu --chip v5e v5p v6e --scale host slice --part train evaluate
    python -m benchmarks.tpu --part block1 --compute pallas      # one block: a minute or less

Needs `pip install 'jax[tpu]'`, and no TPU; a training step takes minutes to compile. The programs
are those of a run with configs/VARIANT.py: bfloat16, AdamW, the state given up to the step. All
figures are a chip's:

- bytes accessed and operations are XLA's estimates. What a Pallas kernel does is in them as the
  kernel itself states it.
- operands and results are the same of all top-level operations, counted from the program's text:
  of a kernel, too, whatever it states.
- memory traffic is what of these lies in memory and not on the chip, see `hlo_traffic.py`.
- temporary memory is what the compiler reserves besides arguments and results.
- images a second are those of the roofline: the arithmetic at the chip's peak, or the bytes
  accessed at its memory's, whichever takes longer. No program reaches it.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.ahead_of_time import programs
from benchmarks.ahead_of_time.progress import progress
from benchmarks.memory import needed_bytes
from benchmarks.tpu import hlo_traffic
from benchmarks.tpu import topology as tpu_topology
from shunted_jax.errors import UserError
from shunted_jax.models import list_models
from shunted_jax.reporting.peaks import peak_bandwidth, peak_flops

_COMPUTE = ("auto", "pallas")
_SPLIT_STATE = {"all-gather", "all-to-all", "collective-permute", "reduce-scatter"}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compiled: one combination of the flags."""

    variant: str
    chip: str
    scale: str
    part: str
    batch_per_chip: int
    compute: str
    augment: bool

    def __str__(self) -> str:
        recipe = " with augmentation" if self.augment else ""
        return (
            f"{self.variant} {self.part}{recipe}, compute {self.compute}, "
            f"{self.batch_per_chip} on {self.chip} {self.scale}"
        )


def main() -> None:
    """Compiles what the flags ask for, prints the table, writes the figures."""
    arguments = _parser().parse_args()
    try:
        tpu_topology.prepare()
        figures = [_measure(case, arguments.hlo) for case in _cases(arguments)]
    except UserError as error:
        sys.exit(f"benchmarks.tpu: {error}")
    _print_table(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu")

    def several(flag: str, choices, default: str, text: str) -> None:
        parser.add_argument(flag, nargs="+", choices=choices, default=[default], help=text)

    several("--variant", list_models(), "shunted_t", "which network")
    several("--chip", [*tpu_topology.TOPOLOGIES], "v5e", "which TPU")
    several("--scale", tpu_topology.SCALES, "chip", "how many; a slice is 256 chips")
    several("--part", programs.PARTS, "train", "a step, or one block's forward and backward")
    several("--compute", _COMPUTE, "auto", "pallas takes the TPU kernels")
    parser.add_argument("--batch-per-chip", type=int, default=64)
    parser.add_argument(
        "--augment", action="store_true", help="train with the recipe's mixing, erasing, drop path"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    parser.add_argument("--hlo", type=Path, help="a folder for the compiled programs' texts")
    return parser


def _cases(arguments: argparse.Namespace) -> Iterator[Case]:
    for variant in arguments.variant:
        for chip in arguments.chip:
            for scale in arguments.scale:
                for part in arguments.part:
                    for compute in arguments.compute:
                        yield Case(
                            variant,
                            chip,
                            scale,
                            part,
                            arguments.batch_per_chip,
                            compute,
                            arguments.augment,
                        )


def _measure(case: Case, hlo_folder: Path | None) -> dict[str, Any]:
    devices = tpu_topology.devices(case.chip, case.scale)
    lowered = programs.lower(
        case.variant,
        case.part,
        devices,
        batch_per_device=case.batch_per_chip,
        dtype="bfloat16",
        compute=case.compute,
        augment=case.augment,
    )
    start = time.perf_counter()
    with progress(f"compiling {case}"):
        compiled = lowered.compile()
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    if hlo_folder:
        hlo_folder.mkdir(parents=True, exist_ok=True)
        name = str(case).replace(",", "").replace(" ", "_")
        (hlo_folder / f"{name}.txt").write_text(text)
    return dataclasses.asdict(case) | {
        "devices": len(devices),
        "compile_seconds": round(seconds, 1),
        **_figures(compiled, text, case, devices[0]),
    }


def _figures(compiled, text: str, case: Case, device: jax.Device) -> dict[str, Any]:
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    modules = hlo_traffic.by_module(text)
    step_seconds = max(
        cost["flops"] / peak_flops(device), cost["bytes accessed"] / peak_bandwidth(device)
    )
    return {
        "gigaflops": cost["flops"] / 1e9,
        "gigabytes_accessed": cost["bytes accessed"] / 1e9,
        "operands_and_results_gigabytes": sum(
            operation.total_bytes / 1e9 for operation in hlo_traffic.operations(text)
        ),
        "memory_traffic_gigabytes": sum(modules.values()),
        "temporary_gigabytes": memory.temp_size_in_bytes / 1e9,
        "argument_gigabytes": memory.argument_size_in_bytes / 1e9,
        "peak_gigabytes": needed_bytes(memory) / 1e9,
        "roofline_images_per_second": case.batch_per_chip / step_seconds,
        "collectives": hlo_traffic.collectives(text),
        "memory_traffic_by_module": {name: round(size, 4) for name, size in modules.items()},
    }


def _print_table(figures: list[dict[str, Any]]) -> None:
    print(f"jax {jax.__version__}, a chip's figures\n")
    print(
        "| program | TPU | compute | TFLOP | bytes accessed | operands and results "
        "| memory traffic | temporary | peak | roofline | compiled in | collectives |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for row in figures:
        print(
            f"| {row['variant']} {row['part']}{', augmented' if row['augment'] else ''} "
            f"| {row['devices']} x {row['chip']}, {row['batch_per_chip']} a chip "
            f"| {row['compute']} | {row['gigaflops'] / 1e3:.2f} "
            f"| {row['gigabytes_accessed']:.1f} GB "
            f"| {row['operands_and_results_gigabytes']:.1f} GB "
            f"| {row['memory_traffic_gigabytes']:.1f} GB "
            f"| {row['temporary_gigabytes']:.2f} GB | {row['peak_gigabytes']:.2f} GB "
            f"| {row['roofline_images_per_second']:.0f} images/s | {row['compile_seconds']:.0f} s "
            f"| {_collectives(row['collectives'])} |"
        )
    print("\nBytes accessed take a kernel's own statement for it; what is counted does not.")
    for row in figures:
        if unexpected := _SPLIT_STATE & row["collectives"].keys():
            # With parameters on every chip, sums of gradients and statistics are all there is to
            # exchange; mixing pairs an image with another chip's.
            print(
                f"{row['variant']} {row['part']} on {row['devices']} chips exchanges more than "
                f"sums: {', '.join(sorted(unexpected))}"
            )


def _collectives(found: dict[str, dict[str, float]]) -> str:
    return (
        ", ".join(
            f"{entry['count']} {kind} ({entry['megabytes']:.0f} MB)"
            for kind, entry in found.items()
        )
        or "none"
    )


if __name__ == "__main__":
    main()
