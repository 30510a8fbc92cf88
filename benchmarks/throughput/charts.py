"""The benchmarks' pictures."""

from pathlib import Path

import numpy as np

from shunted_jax.adapters.matplotlib import Figure, png_of


def draw_ratios(results: list[dict], path: Path) -> None:
    """Draws each contestant's images a second over the best PyTorch one's, case by case.

    Args:
        results: as `report.summarise` returns them, with several contestants each.
        path: of the PNG.
    """
    names = list(dict.fromkeys(name for r in results for name in r["images_per_second"]))
    figure = Figure(figsize=(9, 0.6 + 0.75 * len(results)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(names)
    for row, name in enumerate(names):
        ratios = [result.get("relative", {}).get(name, np.nan) for result in results]
        places = np.arange(len(results)) + (row - (len(names) - 1) / 2) * height
        label = name if name == "ours" else f"PyTorch, {name}"
        bars = axes.barh(places, ratios, height, label=label)
        if name == "ours":
            axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
    text = "{variant} {mode}\nbatch {batch}, {size} px"
    axes.set_yticks(np.arange(len(results)), [text.format(**result) for result in results])
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("images a second, relative to the fastest PyTorch form of the same run")
    figure.legend(loc="outside upper center", ncols=len(names))
    path.write_bytes(png_of(figure))


def draw_growth(results: list[dict], path: Path) -> None:
    """Draws images a second and memory against the batch, a line for each image size.

    Args:
        results: as `report.summarise` returns them, with one contestant.
        path: of the PNG.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    speed, memory = figure.subplots(1, 2)
    results = [result for result in results if "ours" in result["images_per_second"]]
    for size in sorted({result["size"] for result in results}):
        rows = sorted((r for r in results if r["size"] == size), key=lambda r: r["batch"])
        batches = [row["batch"] for row in rows]
        rates = [row["images_per_second"]["ours"] for row in rows]
        speed.plot(batches, rates, marker="o", label=f"{size} pixels")
        peaks = [row["peak_bytes"]["ours"] / 2**30 for row in rows]
        memory.plot(batches, peaks, marker="o", label=f"{size} pixels")
    speed.set_ylabel("images a second")
    memory.set_ylabel("peak memory of the process, GiB")
    for axes in (speed, memory):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("batch")
        axes.grid(alpha=0.3)
        axes.legend()
    memory.set_yscale("log", base=2)
    speed.set_ylim(bottom=0)
    path.write_bytes(png_of(figure))
