"""The whole published recipe through the file that ships it, on a small ImageNet."""

import jax
import numpy as np
import pytest

from shunted_jax.commands import prepare
from shunted_jax.config import resolve
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run
from tests.data import archives
from tests.support.configs import load_config

pytestmark = pytest.mark.proof


@pytest.fixture
def recipe(tiny_variant, tmp_path):
    """Returns configs/shunted_b.py with other sizes, and nothing else of it changed."""
    source = archives.make_imagenet_archives(tmp_path / "tars", val=11, size=72)
    data_dir = str(tmp_path / "data")
    command = ["imagenet2012", "--source", str(source), "--data-dir", data_dir, "--partial"]
    assert prepare.main(command) == 0
    config = load_config("shunted_b")
    config.model.name = tiny_variant
    config.data.data_dir = data_dir
    config.data.image_size = 48
    config.data.num_workers = 1
    config.batch_size = config.eval_batch_size = 8
    config.epochs = 10.0
    config.eval_every_epochs = 10.0
    config.log_every_steps = 1
    return config


def test_published_recipe_runs_on_imagenet(recipe, tmp_path):
    run = make_run(resolve(recipe))
    assert run.config.model.drop_path_rate == 0.3
    assert run.config.augment.rand_augment_layers == 2
    assert run.steps_per_epoch == 12 / 8
    assert run.total_steps == 15
    evaluation = train_and_evaluate(run, tmp_path / "run")

    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    training = [record for record in records if "train/loss" in record]
    assert len(training) == 15
    losses = [record["train/loss"] for record in training]
    assert np.isfinite(losses).all()
    # A thousand classes, of which nothing is known yet.
    assert losses[0] == pytest.approx(np.log(1000), abs=0.5)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    # Warm-up takes 5 of 10 epochs here, 8 steps.
    rates = [record["train/learning_rate"] for record in training]
    assert rates[0] == pytest.approx(1e-6, rel=1e-4)
    assert np.argmax(rates) == 8
    assert rates[8] == pytest.approx(1e-3, rel=1e-4)
    assert evaluation.scores.metrics["top1"].count == 11
    assert jax.tree.leaves(run.programs.abstract_state.ema_params) == []


def test_parts_of_a_batch_that_devices_cannot_share_are_refused(recipe):
    recipe.accumulate_steps = 2
    with pytest.raises(ValueError, match="batch_size=8 in 2 parts .* by 8 devices.* of 16"):
        make_run(resolve(recipe))
