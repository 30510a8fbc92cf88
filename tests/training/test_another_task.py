"""The loop trains for whatever it is given: here, to say how bright an image is."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from shunted_jax.augment.normalizing import normalize
from shunted_jax.commands.report import closing_report, write_pictures
from shunted_jax.config import Config
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.tasks.classification import Classification
from shunted_jax.tasks.metrics import Mean
from shunted_jax.training import run as runs
from shunted_jax.training.loop import train_and_evaluate
from tests.support.small_run import saved_steps


@dataclasses.dataclass(frozen=True)
class Errors:
    squares: np.ndarray

    @property
    def examples(self):
        return len(self.squares)

    def values(self):
        loss = float(self.squares.mean())
        return {"loss": loss, "closeness": 1 / (1 + loss)}

    def texts(self):
        return {"closeness": f"{self.values()['closeness']:.3f}", "images": f"{self.examples}"}

    def per_class(self, class_names):
        return [("class",), *((name,) for name in class_names)]


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Shares its batches with classification; targets, loss and scores are its own."""

    config: Config
    best_metric = "closeness"
    curves = {"closeness": "closeness"}

    def _classification(self):
        return Classification(self.config, num_classes=1)

    def make_model(self):
        return self._classification().make_model()

    def train_batches(self, source, start_step):
        return self._classification().train_batches(source, start_step)

    def eval_batches(self, source):
        return self._classification().eval_batches(source)

    def abstract_batch(self):
        return self._classification().abstract_batch()

    def abstract_eval_batch(self):
        return self._classification().abstract_eval_batch()

    def prepare(self, key, batch):
        return self._pixels(batch), {"bright": self._brightness(batch)}

    def _pixels(self, batch):
        return normalize(batch["image"], self.config.data.mean, self.config.data.std)

    def _brightness(self, batch):
        return jnp.mean(batch["image"] / 255, axis=(1, 2, 3))

    def loss(self, outputs, targets):
        squares = (outputs[:, 0] - targets["bright"]) ** 2
        count = jnp.float32(len(outputs))
        return jnp.mean(squares), {"loss": Mean(jnp.sum(squares), count)}

    def score(self, apply, batch):
        squares = (apply(self._pixels(batch))[:, 0] - self._brightness(batch)) ** 2
        return squares, batch["mask"]

    def sum_up(self, outputs):
        return Errors(np.concatenate([squares[mask] for squares, mask in outputs]))

    def plot_predictions(self, scores, source, path):
        path.write_text(f"{scores.examples} of {source.name}")


def test_another_task_is_trained_scored_and_reported(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "make_task", lambda config, num_classes: Brightness(config))
    run = runs.make_run(make_config(accumulate_steps=2, keep_checkpoints=1))
    evaluation = train_and_evaluate(run, tmp_path)

    records = read_metrics(tmp_path / "metrics.jsonl")
    trained = [record for record in records if "train/loss" in record]
    assert not [name for record in records for name in record if "top" in name]
    assert trained[-1]["train/loss"] < trained[0]["train/loss"]
    closeness = {r["step"]: r["eval/closeness"] for r in records if "eval/closeness" in r}
    assert list(closeness) == [3, 6, 9]
    assert closeness[9] == evaluation.scores.values()["closeness"]
    assert set(saved_steps(tmp_path)) == {9, max(closeness, key=closeness.get)}

    write_pictures(run, evaluation, tmp_path)
    assert (tmp_path / "predictions.png").read_text() == f"37 of {run.eval_source.name}"
    report = closing_report(run, evaluation, tmp_path, ["train.py"])
    loss = evaluation.values()["eval/loss"]
    said = f"\ntest closeness  {closeness[9]:.3f}\ntest images  37, loss {loss:.4f}\n"
    assert report.startswith(said)
