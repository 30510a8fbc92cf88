"""Images a second of the network, next to the same network in PyTorch, in turn on one machine.

    make bench                    # this CPU, five to nine minutes: torch.compile for shunted_t only
    python -m benchmarks.throughput --contestants=ours+eager+channels_last+'compile channels_last'
    python -m benchmarks.throughput --cases=gpu --minutes=20 --json=throughput_gpu.json
    python -m benchmarks.throughput --cases=growth --contestants=ours --plot=growth.png
    python -m benchmarks.throughput --cases=shunted_b,inference,16,224,float32

The PyTorch network is that of shunted_jax/convert/torch_reference.py, written from the
specification. Contestants are processes of their own, with the same number of threads and the same
environment. On a CPU they run in turn, round by round; on a GPU each is alone. Shown is for each
case ours over the best of the others: the median and quartiles of the rounds' ratios; then each
one's median of images a second. One that fails or runs out of its time loses its row alone. What
`--minutes` left out is said at the end. `JAX_COMPILATION_CACHE_DIR` and `TORCHINDUCTOR_CACHE_DIR`
let a second run start from what the first one compiled.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.budget import Budget
from benchmarks.throughput.cases import CASES, OURS, TORCH, TORCH_ON_GPU, VARIANTS, Case
from benchmarks.throughput.measure import in_turn, one_by_one
from benchmarks.throughput.outcome import Outcome
from benchmarks.throughput.report import lines, summarise, table


def main() -> None:
    """Measures the cases, prints the table, writes figures and pictures."""
    arguments = _parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    print(f"{platform.machine()}, {arguments.threads} threads, malloc: {_malloc()}\n")
    budget, results = Budget(arguments.minutes), []
    for number, text in enumerate(arguments.cases, start=1):
        print(f"{number} of {len(arguments.cases)}: {text}", file=sys.stderr)
        before = list(results)
        for outcomes in _measured(_contestants(text, arguments), arguments, budget):
            results = [*before, summarise(outcomes)]
            _write(arguments.json, results, budget)
        if len(results) > len(before):
            print(lines(results[-1]), flush=True)
    print("\n" + table(results))
    if budget.left_out:
        print(f"\nleft out, as {arguments.minutes:g} minutes were up:")
        print("\n".join(f"    {name}" for name in budget.left_out))
    _write(arguments.json, results, budget)
    if arguments.plot:
        from benchmarks.throughput import charts

        compared = any(len(result["images_per_second"]) > 1 for result in results)
        (charts.draw_ratios if compared else charts.draw_growth)(results, arguments.plot)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("--cases", default="cpu", help=f"{', '.join(CASES)}, or cases with +")
    parser.add_argument("--contestants", help="separated by +; by default what CPU or GPU suggests")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="a round takes at least")
    parser.add_argument("--minutes", type=float, help="the whole run takes at most")
    parser.add_argument(
        "--limit", type=float, default=900, help="seconds for a contestant, compilation included"
    )
    parser.add_argument(
        "--alone",
        action=argparse.BooleanOptionalAction,
        default=_has_gpu(),
        help="one contestant after the other; by default where there is a GPU",
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    parser.add_argument("--plot", type=Path, help="where to draw them")
    arguments = parser.parse_args()
    on_gpu, quick = arguments.cases == "gpu", arguments.cases == "cpu"
    arguments.cases = CASES.get(arguments.cases) or arguments.cases.split("+")
    for text in arguments.cases:
        if text.count(",") != 4:
            form = "variant,mode,batch,size,dtype"
            parser.error(f"--cases={text}: take {', '.join(CASES)}, or cases as {form}")
    names = arguments.contestants
    arguments.contestants = (
        names.split("+") if names else (OURS, *reversed(TORCH), *(TORCH_ON_GPU if on_gpu else ()))
    )
    # On two cores torch.compile takes minutes for each case of the larger variants.
    arguments.compiled_variants = VARIANTS[:1] if quick and not names else VARIANTS
    return arguments


def _has_gpu() -> bool:
    # Asking JAX would start its backend here, which would keep the GPU's memory from the others.
    nodes = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]
    return bool(nodes) and os.environ.get("JAX_PLATFORMS") != "cpu"


def _contestants(text: str, arguments: argparse.Namespace) -> list[Case]:
    cases = [Case.parse(text, name, arguments.threads) for name in arguments.contestants]
    return [
        case
        for case in cases
        if "compile" not in case.contestant or case.variant in arguments.compiled_variants
    ]


def _measured(
    cases: list[Case], arguments: argparse.Namespace, budget: Budget
) -> Iterator[list[Outcome]]:
    """Yields what became of a case's contestants so far, whenever there is more to tell."""
    how = arguments.rounds, arguments.seconds, arguments.limit, budget
    if arguments.alone:
        outcomes = []
        for outcome in one_by_one(cases, *how):
            outcomes.append(outcome)
            _show_errors([outcome])
            yield outcomes
    else:
        outcomes = in_turn(cases, *how)
        _show_errors(outcomes)
        if outcomes:
            yield outcomes


def _show_errors(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.failed:
            print(f"{outcome.case.contestant} failed:\n{outcome.errors}", file=sys.stderr)


def _write(path: Path | None, results: list[dict], budget: Budget) -> None:
    if path:
        path.write_text(
            json.dumps({"cases": results, "left_out": budget.left_out}, indent=2) + "\n"
        )


def _malloc() -> str:
    return os.environ.get("GLIBC_TUNABLES") or "as the system has it"


if __name__ == "__main__":
    main()
