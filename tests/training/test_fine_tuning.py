"""From converted weights to another data set: what is taken over, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.checkpoints import Metadata, Weights, read_weights, write_weights
from shunted_jax.commands.report import write_pictures
from shunted_jax.config import AugmentConfig, DataConfig, MeshConfig, OptimizerConfig, resolve
from shunted_jax.models import create_model
from shunted_jax.models.architecture import architecture_of
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run
from shunted_jax.training.scoring import score_checkpoint
from tests.support.configs import load_config
from tests.support.quick import quick_jit

pytestmark = pytest.mark.proof


@pytest.fixture
def converted(tiny_variant, tmp_path):
    """Returns a function that writes weights as `convert_weights.py` does, for so many classes."""

    def write(num_classes, name="weights", **fields):
        model = create_model(tiny_variant, num_classes=num_classes, **fields)
        images = jnp.zeros((1, 16, 16, 3))
        variables = jax.device_get(quick_jit(model.init)(jax.random.key(5), images))
        # Other than fresh ones, statistics and norms too.
        variables = jax.tree.map(lambda leaf: leaf + np.float32(0.25), variables)
        meta = Metadata(architecture_of(model))
        write_weights(tmp_path / name, Weights(**variables, meta=meta), overwrite=True)
        return str(tmp_path / name), variables

    return write


@pytest.fixture
def make_config(digits_dir, tiny_variant):
    """Returns a function that makes configs/finetune.py's configuration in small."""

    def make(init_from, *, optimizer=None, **changes):
        config = load_config("finetune")
        config.model.name = tiny_variant
        config.model.dtype = "float32"
        config.data = DataConfig(
            dataset="digits",
            data_dir=digits_dir,
            train_split="train[:48]",
            eval_split="test[:13]",
            image_size=32,
            num_threads=1,
        )
        config.augment = AugmentConfig(crop_padding=2, flip_prob=0.0)
        settings = {"learning_rate": 1e-2, "warmup_epochs": 0.5, "layer_decay": 0.8}
        config.optimizer = OptimizerConfig(**settings | (optimizer or {}))
        config.batch_size = config.eval_batch_size = 16
        config.epochs = 1.0
        config.init_from = init_from
        for name, value in changes.items():
            setattr(config, name, value)
        return resolve(config)

    return make


def without_head(params):
    return {name: tree for name, tree in params.items() if name != "head"}


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_other_classes_end_to_end(converted, make_config, tmp_path):
    path, variables = converted(7)
    run = make_run(make_config(path, ema_decay=0.5, mesh=MeshConfig(data=2, fsdp=4)))
    state = run.programs.init(jax.random.key(0))
    same(without_head(state.params), without_head(variables["params"]))
    same(state.batch_stats, variables["batch_stats"])
    same(state.ema_params, state.params)
    head = state.params["head"]
    assert head["kernel"].shape == (16, 10)
    assert 0.01 < np.std(head["kernel"]) < 0.03
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == jax.tree.map(
        lambda leaf: leaf.sharding, run.programs.abstract_state
    )

    evaluation = train_and_evaluate(run, tmp_path / "run")
    assert evaluation.scores.metrics["top1"].count == 13
    values = evaluation.values()
    assert {"eval/top1", "eval_ema/top1", "eval/loss", "eval_ema/loss"} <= values.keys()
    assert values["eval/loss"] != values["eval_ema/loss"]
    trained = read_weights(tmp_path / "run").params
    before, after = without_head(variables["params"]), without_head(trained)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
    assert all(distance > 0 for distance in jax.tree.leaves(moved))


def test_head_alone(converted, make_config, tmp_path):
    path, variables = converted(10)
    config = make_config(path, optimizer={"freeze_backbone": True, "layer_decay": 1.0})
    run = make_run(config)
    state = run.programs.init(jax.random.key(0))
    same(state.params, variables["params"])  # the head, too: it has as many classes
    train_and_evaluate(run, tmp_path / "run")
    trained = read_weights(tmp_path / "run")
    same(without_head(trained.params), without_head(variables["params"]))
    same(trained.batch_stats, variables["batch_stats"])
    assert np.any(trained.params["head"]["kernel"] != variables["params"]["head"]["kernel"])


def test_grey_images_from_weights_for_rgb_end_to_end(converted, make_config, tmp_path):
    path, variables = converted(10)
    config = make_config(path)
    grey = dataclasses.replace(config.data, mean=(0.5,), std=(0.25,), num_workers=1)
    run = make_run(make_config(path, data=grey))
    assert run.model.in_channels == 1
    evaluation = train_and_evaluate(run, tmp_path / "run")
    assert evaluation.scores.metrics["top1"].count == 13
    write_pictures(run, evaluation, tmp_path / "run")
    kernel = read_weights(tmp_path / "run").params["stem"]["conv_0"]["kernel"]
    before = variables["params"]["stem"]["conv_0"]["kernel"].sum(axis=2, keepdims=True)
    assert 0 < np.abs(kernel - before).max() < 0.1
    score = score_checkpoint(make_config(None, data=grey), str(tmp_path / "run"))
    assert score.values()["top1"] == evaluation.scores.values()["top1"]


def test_what_cannot_be_started_from_is_refused(converted, make_config, tmp_path):
    def init(path):
        make_run(make_config(path)).programs.init(jax.random.key(0))

    with pytest.raises(ValueError, match="there is nothing at .*nowhere: give the folder"):
        init(str(tmp_path / "nowhere"))
    path, _ = converted(10, depths=(2, 1), num_heads=(2, 4))
    with pytest.raises(
        ValueError,
        match=r"(?s)weights holds another network.*:\n  depths: \(2, 1\) there, \(1, 1\) here\n"
        r"  num_heads: \(2, 4\) there, \(2, 2\) here$",
    ):
        init(path)
