"""Images a second of the network, next to the same network in PyTorch, in turn on one machine.

    make bench                    # this CPU, five to nine minutes: torch.compile for shunted_t only
    python -m benchmarks.throughput --contestants=ours+eager+channels_last+'compile channels_last'
    python -m benchmarks.throughput --cases=gpu --json=throughput_gpu.json
    python -m benchmarks.throughput --cases=growth --contestants=ours --plot=growth.png
    python -m benchmarks.throughput --cases=shunted_b,inference,16,224,float32

The PyTorch network is that of tests/torch_reference.py, written from the specification. Contestants
are processes of their own that run in turn, round by round, with the same number of threads and the
same environment. Shown is for each case ours over the best of the others: the median and quartiles
of the rounds' ratios, as what slows a shared machine down lasts longer than a round; then each
one's median of images a second.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.throughput import charts
from benchmarks.throughput.contestants import OURS, TORCH, TORCH_ON_GPU, Case
from shunted_jax.models import create_model
from shunted_jax.models.cost import count_macs

VARIANTS = ("shunted_t", "shunted_s", "shunted_b")
GROWTH = {224: (1, 4, 16, 64, 256), 384: (1, 4, 16, 64), 512: (1, 4, 16, 32)}
CASES = {
    "cpu": [
        "shunted_t,training,8,224,float32",
        "shunted_t,training,32,32,float32",
        *(f"{name},inference,{batch},224,float32" for name in VARIANTS for batch in (1, 16)),
    ],
    "gpu": [
        f"{name},{mode},{batch},224,bfloat16"
        for name in VARIANTS
        for mode in ("inference", "training")
        for batch in (128, 256)
    ],
    "growth": [
        f"shunted_t,inference,{batch},{size},float32"
        for size, batches in GROWTH.items()
        for batch in batches
    ],
}


def main() -> None:
    """Measures the cases, prints the table, writes figures and pictures."""
    arguments = _parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    print(f"{platform.machine()}, {arguments.threads} threads, malloc: {_malloc()}\n")
    results = []
    for number, text in enumerate(arguments.cases, start=1):
        print(f"{number} of {len(arguments.cases)}: {text}", file=sys.stderr)
        results.append(_measure(text, arguments))
        print(_line(results[-1]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    print("\n" + _table(results))
    if arguments.plot:
        compared = any(len(result["images_per_second"]) > 1 for result in results)
        (charts.draw_ratios if compared else charts.draw_growth)(results, arguments.plot)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("--cases", default="cpu", help=f"{', '.join(CASES)}, or cases with +")
    parser.add_argument("--contestants", help="separated by +; by default what CPU or GPU suggests")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="a round takes at least")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    parser.add_argument("--plot", type=Path, help="where to draw them")
    arguments = parser.parse_args()
    on_gpu, quick = arguments.cases == "gpu", arguments.cases == "cpu"
    arguments.cases = CASES.get(arguments.cases) or arguments.cases.split("+")
    names = arguments.contestants
    arguments.contestants = (
        names.split("+") if names else (OURS, *TORCH, *(TORCH_ON_GPU if on_gpu else ()))
    )
    # On two cores torch.compile takes minutes for each case of the larger variants.
    arguments.compiled_variants = VARIANTS[:1] if quick and not names else VARIANTS
    return arguments


class Process:
    """A contestant in its process; see `contestants.py`."""

    def __init__(self, case: Case):
        """Starts it; it compiles."""
        self.case = case
        self.rounds: list[dict] = []
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.throughput.contestants",
                json.dumps(dataclasses.asdict(case)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        """Waits until it has compiled.

        Raises:
            RuntimeError: it ended instead, as where there is too little memory.
        """
        self.ready = self._answer()

    def run(self, seconds: float) -> None:
        """Runs one round."""
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        self.rounds.append(self._answer())

    def rates(self) -> np.ndarray:
        """Returns images a second of each round."""
        return np.array([one["images"] / one["seconds"] for one in self.rounds])

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(f"{self.case} ended with status {status}: its message is above")
        return json.loads(line)


def _measure(text: str, arguments: argparse.Namespace) -> dict:
    processes = list(_start(text, arguments))  # all compile at once, and run in turn
    try:
        for process in processes:
            process.wait()
        for _ in range(arguments.rounds):
            for process in processes:
                process.run(arguments.seconds)
    finally:
        for process in processes:
            process.close()
    rates = {process.case.contestant: process.rates() for process in processes}
    medians = {name: float(np.median(of_one)) for name, of_one in rates.items()}
    result = {
        **dataclasses.asdict(processes[0].case),
        "device": processes[0].ready["device"],
        "images_per_second": medians,
        "quartiles": {
            name: np.percentile(of_one, [25, 75]).tolist() for name, of_one in rates.items()
        },
        "compile_seconds": {p.case.contestant: p.ready["compile_seconds"] for p in processes},
        "peak_bytes": {p.case.contestant: p.rounds[-1]["peak_bytes"] for p in processes},
    }
    if OURS in rates and len(rates) > 1:
        best = min(
            (name for name in rates if name != OURS),
            key=lambda name: np.median(rates[OURS] / rates[name]),
        )
        relative = {name: of_one / rates[best] for name, of_one in rates.items()}
        result |= {
            "best_other": best,
            "relative": {name: float(np.median(of_one)) for name, of_one in relative.items()},
            "relative_quartiles": np.percentile(relative[OURS], [25, 75]).tolist(),
        }
    peak = processes[0].ready["peak_flops"]
    if peak:
        result["model_flop_utilisation"] = {
            name: rate * _flops(processes[0].case) / peak for name, rate in medians.items()
        }
    return result


def _start(text: str, arguments: argparse.Namespace) -> Iterator[Process]:
    variant, mode, batch, size, dtype = text.split(",")
    for name in arguments.contestants:
        if "compile" in name and variant not in arguments.compiled_variants:
            continue
        print(f"  compiling {name}", file=sys.stderr)
        case = Case(name, variant, mode, int(batch), int(size), dtype, arguments.threads)
        yield Process(case)


def _flops(case: Case) -> float:
    """Returns the operations an image takes: two a multiply-accumulate, thrice that in training."""
    macs = count_macs(create_model(case.variant), case.size)
    return 2 * macs * (3 if case.mode == "training" else 1)


def _line(result: dict) -> str:
    case = "{variant} {mode}, batch {batch}, {size} pixels, {dtype}".format(**result)
    medians, used = result["images_per_second"], result.get("model_flop_utilisation", {})
    parts = []
    for name, rate in medians.items():
        low, high = result["quartiles"][name]
        utilisation = f", {used[name]:.1%} of the peak" if name in used else ""
        memory = result["peak_bytes"][name] / 2**20
        parts.append(
            f"    {name:40} {rate:8.1f} ({low:.1f}-{high:.1f}), {memory:,.0f} MiB{utilisation}"
        )
    if "relative" in result:
        low, high = result["relative_quartiles"]
        case += f": {result['relative'][OURS]:.2f} x {result['best_other']} ({low:.2f}-{high:.2f})"
    return "\n".join([case, *parts])


def _table(results: list[dict]) -> str:
    names = list(dict.fromkeys(name for r in results for name in r["images_per_second"]))
    rows = [["case", "ours / best other", *names], ["---"] * (2 + len(names))]
    for result in results:
        case = "`{variant}` {mode}, batch {batch}, {size} px, {dtype}".format(**result)
        ratio = f"**{result['relative'][OURS]:.2f}**" if "relative" in result else ""
        medians = result["images_per_second"]
        rates = (f"{medians[name]:.1f}" if name in medians else "" for name in names)
        rows.append([case, ratio, *rates])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _malloc() -> str:
    return os.environ.get("GLIBC_TUNABLES") or "as the system has it"


if __name__ == "__main__":
    main()
