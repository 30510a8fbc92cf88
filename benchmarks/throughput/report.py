"""A case's figures, in lines and tables."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from benchmarks.throughput.cases import OURS
from benchmarks.throughput.outcome import Outcome
from shunted_jax.models import create_model
from shunted_jax.models.cost import count_macs


def summarise(outcomes: Sequence[Outcome]) -> dict:
    """Returns the figures of a case: each contestant's, and ours over the best of the others.

    Args:
        outcomes: of its contestants, one at least.
    """
    case = outcomes[0].case
    whole = {one.case.contestant: one for one in outcomes if one.failed is None and one.rounds}
    rates = {name: one.rates() for name, one in whole.items()}
    medians = {name: float(np.median(of_one)) for name, of_one in rates.items()}
    ready = [one.ready for one in outcomes if one.ready]
    result = {
        **dataclasses.asdict(case),
        "device": ready[0]["device"] if ready else None,
        "images_per_second": medians,
        "quartiles": {
            name: np.percentile(of_one, [25, 75]).tolist() for name, of_one in rates.items()
        },
        "compile_seconds": {name: one.ready["compile_seconds"] for name, one in whole.items()},
        "peak_bytes": {name: one.rounds[-1]["peak_bytes"] for name, one in whole.items()},
        "failed": {one.case.contestant: one.failed for one in outcomes if one.failed},
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
    peak = next((one["peak_flops"] for one in ready if one["peak_flops"]), None)
    if peak:
        flops = _flops(case.variant, case.mode, case.size)
        result["model_flop_utilisation"] = {
            name: rate * flops / peak for name, rate in medians.items()
        }
    return result


def _flops(variant: str, mode: str, size: int) -> float:
    """Returns the operations an image takes: two a multiply-accumulate, thrice that in training."""
    return 2 * _macs(variant, size) * (3 if mode == "training" else 1)


@functools.cache
def _macs(variant: str, size: int) -> int:
    return count_macs(create_model(variant), size)


def lines(result: dict) -> str:
    """Returns a case's figures for people, a line for each contestant."""
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
    parts += [f"    {name:40} failed: {why}" for name, why in result["failed"].items()]
    if "relative" in result:
        low, high = result["relative_quartiles"]
        case += f": {result['relative'][OURS]:.2f} x {result['best_other']} ({low:.2f}-{high:.2f})"
    return "\n".join([case, *parts])


def table(results: Sequence[dict]) -> str:
    """Returns the cases as a table in Markdown."""
    names = list(
        dict.fromkeys(
            name for r in results for group in ("images_per_second", "failed") for name in r[group]
        )
    )
    rows = [["case", "ours / best other", *names], ["---"] * (2 + len(names))]
    for result in results:
        case = "`{variant}` {mode}, batch {batch}, {size} px, {dtype}".format(**result)
        ratio = f"**{result['relative'][OURS]:.2f}**" if "relative" in result else ""
        cells = {name: f"{rate:.1f}" for name, rate in result["images_per_second"].items()}
        cells |= dict.fromkeys(result["failed"], "failed")
        rows.append([case, ratio, *(cells.get(name, "") for name in names)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
