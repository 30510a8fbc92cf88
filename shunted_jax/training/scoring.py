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

from shunted_jax.checkpoints import Metadata, Weights
from shunted_jax.config import Config
from shunted_jax.data.sources import Source, open_split
from shunted_jax.data.workers import check_shared_memory
from shunted_jax.errors import UserError
from shunted_jax.pretrained import read_weights_for
from shunted_jax.storage import as_path, replace_text
from shunted_jax.tasks import make_task
from shunted_jax.training.classes import (
    ambiguous,
    examples,
    names_of,
    outputs_of,
    with_outputs,
)
from shunted_jax.training.devices.sharding import make_mesh, put_variables
from shunted_jax.training.evaluation import Evaluation, score_all
from shunted_jax.training.run import check_batch_size
from shunted_jax.training.step.programs import make_programs

logger = logging.getLogger(__name__)

_MOST_NAMES = 20  # that a message lists


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


def score_checkpoint(
    config: Config, path: str, step: int | str = "best", *, map_classes: bool = False
) -> Score:
    """Scores a checkpoint on the evaluation split; every host calls it and gets the same.

    Args:
        config: as `config.resolve` returns it.
        path: converted weights, or a run's folder.
        step: which of a run's checkpoints: its number, "latest", or "best", as `load_pretrained`
            takes it.
        map_classes: find the data set's classes among the checkpoint's by their names, and score it
            over those alone: its other outputs do not count.

    Raises:
        UserError: there is no such checkpoint, it is of another network or of other classes, or
            the evaluation split is not there.
    """
    make_task(config, num_classes=0).make_model()  # a mistake shows before the data are opened
    source = open_split(config.data, "eval_split")
    mesh = make_mesh(config.mesh)
    check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    check_shared_memory(config, len(source), jax.process_count(), training=False)
    task = make_task(config, num_classes=len(source.class_names))
    model = task.make_model()
    weights, saved_classes = read_weights_for(model, path, step)
    if map_classes and saved_classes:
        weights = _over_classes_of(source, weights, path)
    else:
        _check_classes(source, weights.meta, path)
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
    over = f", over {len(source.class_names):,} of its {saved_classes:,} classes"
    over = over if map_classes else ""
    logger.info("scoring %s on %s, %d images%s", path, source.name, len(source), over)
    evaluation = score_all(candidates, programs.eval_step, task, source, mesh)
    about = {
        "checkpoint": path,
        "step": weights.step,
        "model": config.model.name,
        "dataset": config.data.dataset,
        "split": config.data.eval_split,
        "image_size": config.data.image_size,
    }
    if map_classes:
        about |= {"classes": len(source.class_names), "classes_of_checkpoint": saved_classes}
    return Score(about, evaluation, source.class_names)


def write_score(score: Score, folder: str | os.PathLike) -> None:
    """Writes `eval.json` and `per_class.csv`, on the first host alone; each as a whole.

    Args:
        score: of a checkpoint.
        folder: where to write them, local or in a bucket; made if needed.
    """
    if jax.process_index():
        return
    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "eval.json", json.dumps(score.values(), indent=2) + "\n")
    table = io.StringIO()
    rows = score.evaluation.scores.per_class(score.class_names)
    csv.writer(table, lineterminator="\n").writerows(rows)
    replace_text(folder / "per_class.csv", table.getvalue())


def _check_classes(source: Source, meta: Metadata, path: str) -> None:
    names, saved, count = source.class_names, meta.class_names, meta.model["num_classes"]
    if saved == list(names) or (saved is None and count == len(names)):
        return
    if count != len(names):
        problem = f"{source.name} has {len(names):,} classes, and {path} tells {count:,} apart"
    else:
        label = next(i for i, name in enumerate(names) if name != saved[i])
        problem = (
            f"label {label} is {names[label]!r} in {source.name}, and {saved[label]!r} in {path}"
        )
    remedy = "score it on the data that it was trained for"
    known = names_of(meta) or ()
    outputs = outputs_of(names, known)
    if None not in outputs and len(set(outputs)) == len(outputs) and not ambiguous(names, known):
        remedy = "the data's classes are all among the checkpoint's: add --map-classes to score it "
        remedy += "over those alone"
    elif count != len(names):
        remedy += ", or fine-tune it first (configs/finetune.py)"
    raise UserError(f"{problem}: {remedy}")


def _over_classes_of(source: Source, weights: Weights, path: str) -> Weights:
    """Returns parameters whose head has the outputs of the data set's classes alone."""
    saved = names_of(weights.meta)
    if saved is None:
        raise UserError(
            f"{path} does not have the names of its {weights.meta.model['num_classes']:,} classes, "
            "by which --map-classes finds them: leave it out, and score it on data of as many"
        )
    names = source.class_names
    outputs = outputs_of(names, saved)
    if strangers := [name for name, output in zip(names, outputs, strict=True) if output is None]:
        raise UserError(
            f"{len(strangers):,} of the {len(names):,} classes of {source.name} are none of the "
            f"{len(saved):,} that {path} tells apart, such as {examples(saved)}; take them out of "
            f"the data: {examples(strangers, most=_MOST_NAMES)}"
        )
    if unclear := ambiguous(names, saved):
        raise UserError(
            f"{path} has several classes of one name, and which of them is meant cannot be told: "
            f"take these out of the data: {examples(unclear, most=_MOST_NAMES)}"
        )
    if len(set(outputs)) < len(outputs):
        twice = [name for name, at in zip(names, outputs, strict=True) if outputs.count(at) > 1]
        raise UserError(
            f"{source.name} has several names for one class of {path}, and a label of its own for "
            f"each: make them one in the data: {examples(twice, most=_MOST_NAMES)}"
        )
    return weights.changed(lambda params: with_outputs(params, outputs))
