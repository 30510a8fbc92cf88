"""The end of a run on the screen: the score, where everything is, how to go on."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from shunted_jax.commands.command_line import without_flag
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.reporting.pictures import plot_curves
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
    title = f"{run.config.model.name} on {run.config.data.dataset}: {evaluation.headline()}"
    records = read_metrics(workdir / "metrics.jsonl")
    plot_curves(records, run.task.curves, workdir / "curves.png", title)
    run.task.plot_predictions(evaluation.scores, run.eval_source, workdir / "predictions.png")


def closing_report(
    run: Run, evaluation: Evaluation, workdir: epath.Path, command: Sequence[str]
) -> str:
    """Returns the last thing on the screen.

    Args:
        run: what was trained on what.
        evaluation: of the run's end.
        workdir: the run's folder.
        command: how this run was started: a program of Python's and its arguments.
    """
    files = {
        "checkpoint": workdir / "checkpoints" / str(run.total_steps),
        "metrics": workdir / "metrics.jsonl",
        "TensorBoard": workdir / "tensorboard",
        "curves": workdir / "curves.png",
        "predictions": workdir / "predictions.png",
    }
    lines = [
        "",
        *evaluation.in_lines("test "),
        "",
        *(f"  {name:<14}{_relative(path)}" for name, path in files.items()),
        "",
        "to go on:",
        *(f"  {name:<14}{text}" for name, text in _ways_on(run, workdir, command).items()),
    ]
    return "\n".join(lines)


def _ways_on(run: Run, workdir: epath.Path, command: Sequence[str]) -> dict[str, str]:
    """Returns what one may do next, by what it is: a line of Python, then lines for a shell."""
    config, python = run.config, _relative(Path(sys.executable))
    if os.sep not in python:
        python = os.path.join(os.curdir, python)  # else, a shell would look for it elsewhere

    def train(field: str, value: str) -> str:
        # A new folder: this one's goes on with the configuration that it has.
        arguments = without_flag("workdir", without_flag(f"config.{field}", command))
        return shlex.join([python, *arguments, f"--config.{field}={value}"])

    install = shlex.join([python, "-m", "pip", "install", "tensorboard"])
    show = shlex.join([python, "-m", "tensorboard.main", "--logdir", _relative(workdir)])
    path = json.dumps(_relative(workdir), ensure_ascii=False)
    ways = {
        "in Python": f"model, variables = shunted_jax.load_pretrained({path})",
        "train longer": train("epochs", f"{2 * config.epochs:g}"),
    }
    if config.init_from is None:  # else, the weights to start from are of this model
        other = "shunted_s" if config.model.name == "shunted_t" else "shunted_t"
        ways["another model"] = train("model.name", other)
    return ways | {"live curves": f"{install} && {show}"}


def _relative(path: epath.Path) -> str:
    """Returns `path` as one types it from here, where it lies below this folder."""
    if in_bucket(path):
        return os.fspath(path)
    absolute = os.path.abspath(path)  # unlike resolve(), leaves a virtual environment's link alone
    relative = os.path.relpath(absolute)
    return absolute if relative.startswith(os.pardir) else relative
