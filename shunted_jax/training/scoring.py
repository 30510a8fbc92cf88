"""Scoring a checkpoint, a run's or a converted one's: `train.py --mode=eval`."""

import csv
import dataclasses
import io
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from etils import epath

from shunted_jax.config import Config
from shunted_jax.data.recipe import make_eval_transform
from shunted_jax.data.sources import Source, open_source
from shunted_jax.errors import UserError
from shunted_jax.pretrained import read_weights_for
from shunted_jax.training.devices.sharding import make_mesh, put_variables
from shunted_jax.training.evaluation import Evaluation, score_all
from shunted_jax.training.run import check_batch_size, make_model
from shunted_jax.training.step.programs import make_programs

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Score:
    """What a checkpoint is worth on a data set.

    Attributes:
        about: what was scored on what, as `eval.json` says it.
        evaluation: the means, and each example's prediction.
        class_names: what each label stands for.
    """

    about: dict[str, Any]
    evaluation: Evaluation
    class_names: tuple[str, ...]

    def values(self) -> dict[str, Any]:
        """Returns what `eval.json` holds: what was scored, the means, the number of examples."""
        metrics = self.evaluation.metrics
        means = {name: mean.value for name, mean in metrics.items()}
        if self.evaluation.averaged is not None:
            averaged = self.evaluation.averaged.metrics
            means |= {f"ema_{name}": mean.value for name, mean in averaged.items()}
        return self.about | means | {"examples": int(metrics["top1"].count)}

    def describe(self) -> str:
        """Returns the score for a person."""
        metrics = self.evaluation.metrics
        averaged = self.evaluation.averaged
        return (
            f"top-1  {self.evaluation.top1_text()}\n"
            f"top-5  {100 * metrics['top5'].value:.2f} %, loss {metrics['loss'].value:.4f}"
            + ("" if averaged is None else f"\nof the moving average  {averaged.top1_text()}")
        )


def score_checkpoint(config: Config, path: str, step: int | str = "best") -> Score:
    """Scores a checkpoint on the evaluation split; every host calls it and gets the same.

    Args:
        config: as `config.resolve` returns it.
        path: converted weights, or a run's folder.
        step: which of a run's checkpoints: its number, "latest", or "best", as `load_pretrained`
            takes it.

    Raises:
        UserError: there is no such checkpoint, it is of another network or of other classes, or
            the evaluation split is not there.
    """
    source = open_source(config.data.dataset, config.data.eval_split, config.data.data_dir)
    mesh = make_mesh(config.mesh)
    check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    model = make_model(config, num_classes=len(source.class_names))
    weights, saved_classes = read_weights_for(model, path, step)
    _check_classes(source, saved_classes, weights.meta.class_names, path)
    # No optimizer: nothing is trained, and moments would take twice the parameters' memory.
    programs = make_programs(model, optax.identity(), config, mesh)
    candidates = [
        put_variables(
            {"params": params, "batch_stats": weights.batch_stats},
            programs.abstract_state.variables,
        )
        for params in (weights.params, weights.ema_params)
        if params is not None
    ]
    logger.info("scoring %s on %s, %d images", path, source.name, len(source))
    evaluation, *averaged = score_all(
        candidates, programs.eval_step, source, make_eval_transform(config), config, mesh
    )
    evaluation = dataclasses.replace(evaluation, averaged=averaged[0] if averaged else None)
    about = {
        "checkpoint": path,
        "step": weights.step,
        "model": config.model.name,
        "dataset": config.data.dataset,
        "split": config.data.eval_split,
        "image_size": config.data.image_size,
    }
    return Score(about, evaluation, source.class_names)


def write_score(score: Score, folder: str | os.PathLike) -> None:
    """Writes `eval.json` and `per_class.csv`, on the first host alone.

    Args:
        score: of a checkpoint.
        folder: where to write them, local or in a bucket; made if needed.
    """
    if jax.process_index():
        return
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.json").write_text(json.dumps(score.values(), indent=2) + "\n")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("label", "class", "examples", "correct", "top1"))
    writer.writerows(per_class(score.evaluation, score.class_names))
    (folder / "per_class.csv").write_text(table.getvalue())


def per_class(
    evaluation: Evaluation, class_names: Sequence[str]
) -> list[tuple[int, str, int, int, float | str]]:
    """Returns (label, class, examples, correct, accuracy) for each class, in the labels' order.

    The accuracy of a class without examples is an empty text.
    """
    count = len(class_names)
    examples = np.bincount(evaluation.labels, minlength=count).tolist()
    right = evaluation.labels[evaluation.labels == evaluation.predictions]
    correct = np.bincount(right, minlength=count).tolist()
    return [
        (label, name, all_of, right_of, right_of / all_of if all_of else "")
        for label, (name, all_of, right_of) in enumerate(
            zip(class_names, examples, correct, strict=True)
        )
    ]


def _check_classes(
    source: Source, saved_classes: int, saved_names: list[str] | None, path: str
) -> None:
    if saved_classes != len(source.class_names):
        raise UserError(
            f"{source.name} has {len(source.class_names):,} classes, and {path} tells "
            f"{saved_classes:,} apart: score it on the data that it was trained for, or fine-tune "
            "it first (configs/finetune.py)"
        )
    if saved_names is not None and list(source.class_names) != saved_names:
        label = next(i for i, name in enumerate(source.class_names) if name != saved_names[i])
        raise UserError(
            f"label {label} is {source.class_names[label]!r} in {source.name}, and "
            f"{saved_names[label]!r} in {path}: score it on the data that it was trained for"
        )
