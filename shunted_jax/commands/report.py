"""The end of a run on the screen: the score, where everything is, how to go on."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from etils import epath

from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.reporting.pictures import plot_curves, plot_predictions
from shunted_jax.storage import in_bucket
from shunted_jax.training.evaluation import Evaluation
from shunted_jax.training.run import Run


def write_pictures(run: Run, evaluation: Evaluation, workdir: epath.Path) -> None:
    """Writes `curves.png` and `predictions.png` into `workdir`.

    Args:
        run: what was trained on what.
        evaluation: of the run's end.
        workdir: the run's folder, with its `metrics.jsonl`.
    """
    title = f"{run.config.model.name} on {run.config.data.dataset}: {evaluation.top1_text()}"
    plot_curves(read_metrics(workdir / "metrics.jsonl"), workdir / "curves.png", title)
    examples = run.eval_source.examples

    def image_of(index: int) -> np.ndarray:
        return run.eval_transform(examples[evaluation.indices[index]]["image"])

    plot_predictions(
        image_of,
        evaluation.labels,
        evaluation.predictions,
        run.eval_source.class_names,
        workdir / "predictions.png",
    )


def closing_report(
    run: Run, evaluation: Evaluation, workdir: epath.Path, command: Sequence[str]
) -> str:
    """Returns the last thing on the screen.

    Args:
        run: what was trained on what.
        evaluation: of the run's end.
        workdir: the run's folder.
        command: how this run was started, without the workdir.
    """
    files = {
        "checkpoint": workdir / "checkpoints" / str(run.total_steps),
        "metrics": workdir / "metrics.jsonl",
        "TensorBoard": workdir / "tensorboard",
        "curves": workdir / "curves.png",
        "predictions": workdir / "predictions.png",
    }
    python = _relative(Path(sys.executable))
    train = " ".join([python, *command])
    larger = "shunted_s" if run.config.model.name == "shunted_t" else "shunted_t"
    commands = {
        "in Python": f'model, variables = shunted_jax.load_pretrained("{_relative(workdir)}")',
        "train longer": f"{train} --config.epochs={2 * run.config.epochs:g}",
        "another model": f"{train} --config.model.name={larger}",
        "live curves": f"{python} -m pip install tensorboard && "
        f"{python} -m tensorboard.main --logdir {_relative(workdir)}",
    }
    metrics = evaluation.metrics
    lines = [
        "",
        f"test top-1  {evaluation.top1_text()}",
        f"test top-5  {100 * metrics['top5'].value:.2f} %, loss {metrics['loss'].value:.4f}",
        "",
        *(f"  {name:<14}{_relative(path)}" for name, path in files.items()),
        "",
        "to go on:",
        *(f"  {name:<14}{text}" for name, text in commands.items()),
    ]
    return "\n".join(lines)


def _relative(path: epath.Path) -> str:
    """Returns `path` as one types it from here, where it lies below this folder."""
    if in_bucket(path):
        return os.fspath(path)
    absolute = os.path.abspath(path)  # unlike resolve(), leaves a virtual environment's link alone
    relative = os.path.relpath(absolute)
    return absolute if relative.startswith(os.pardir) else relative
