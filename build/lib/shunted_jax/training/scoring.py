"""Scoring a checkpoint, a run's or a converted one's: `train.py --mode=eval`."""

import csv
import dataclasses
import io
import json
import logging
import os
from typing import Any

import jax
import optax
from etils import epath

from shunted_jax.config import Config
from shunted_jax.data.sources import Source, open_source
from shunted_jax.errors import UserError
from shunted_jax.pretrained import read_weights_for
from shunted_jax.tasks import make_task
from shunted_jax.training.devices.sharding import make_mesh, put_variables
from shunted_jax.training.evaluation import Evaluation, score_all
from shunted_jax.training.run import check_batch_size
from shunted_jax.training.step.programs import make_programs

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Score:
    """What a checkpoint is worth on a data set.

    Attributes:
        about: what was scored on what, as `eval.json` says it.
        evaluation: of its parameters and their average.
        class_names: what each label stands for.
    """

    about: dict[str, Any]
    evaluation: Evaluation
    class_names: tuple[str, ...]

    def values(self) -> dict[str, Any]:
        """Returns what `eval.json` holds: what was scored, the means, the number of examples."""
        scores, averaged = self.evaluation.scores, self.evaluation.averaged
        means = scores.values()
        if averaged is not None:
            means |= {f"ema_{name}": value for name, value in averaged.values().items()}
        return self.about | means | {"examples": scores.examples}

    def describe(self) -> str:
        """Returns the score for a person."""
        lines = self.evaluation.in_lines()
        if self.evaluation.averaged is not None:
            first = next(iter(self.evaluation.averaged.texts().values()))
            lines.append(f"of the moving average  {first}")
        return "\n".join(lines)


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
    make_task(config, num_classes=0).make_model()  # a mistake shows before the data are opened
    source = open_source(config.data.dataset, config.data.eval_split, config.data.data_dir)
    mesh = make_mesh(config.mesh)
    check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    task = make_task(config, num_classes=len(source.class_names))
    model = task.make_model()
    weights, saved_classes = read_weights_for(model, path, step)
    _check_classes(source, saved_classes, weights.meta.class_names, path)
    # No optimizer: nothing is trained, and moments would take twice the parameters' memory.
    programs = make_programs(model, optax.identity(), task, mesh)
    candidates = [
        put_variables(
            {"params": params, "batch_stats": weights.batch_stats},
            programs.abstract_state.variables,
        )
        for params in (weights.params, weights.ema_params)
        if params is not None
    ]
    logger.info("scoring %s on %s, %d images", path, source.name, len(source))
    evaluation = score_all(candidates, programs.eval_step, task, source, mesh)
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
    rows = score.evaluation.scores.per_class(score.class_names)
    csv.writer(table, lineterminator="\n").writerows(rows)
    (folder / "per_class.csv").write_text(table.getvalue())


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
