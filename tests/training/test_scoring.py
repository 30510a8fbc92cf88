"""A checkpoint's score against plain numpy, and the files that it is written to."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.checkpoints import Metadata, Weights, write_weights
from shunted_jax.config import resolve
from shunted_jax.data.recipe import make_eval_transform
from shunted_jax.data.sources import Source, open_source
from shunted_jax.errors import UserError
from shunted_jax.models import create_model
from shunted_jax.models.architecture import architecture_of
from shunted_jax.training import scoring
from shunted_jax.training.scoring import score_checkpoint, write_score
from tests.support.quick import quick_jit
from tests.support.tiny import tiny_config

EXAMPLES = 37  # 8 devices, batches of 16: 5 rows are left for the last one


@pytest.fixture
def make_config(digits_dir, tiny_variant):
    """Returns a function that makes the configuration of an evaluation on digits."""

    def make(init_from=None, **changes):
        return resolve(
            tiny_config(
                digits_dir,
                model={"name": tiny_variant, "dtype": "bfloat16"},  # which evaluation is not in
                data={"eval_split": f"test[:{EXAMPLES}]"} | changes,
                init_from=init_from,
            )
        )

    return make


@pytest.fixture
def network(tiny_variant):
    """Returns a module for 10 classes, and variables that tell images apart."""
    model = create_model(tiny_variant, num_classes=10)
    variables = jax.device_get(quick_jit(model.init)(jax.random.key(5), jnp.zeros((1, 16, 16, 3))))
    head = variables["params"]["head"]
    head["kernel"] = np.random.default_rng(0).standard_normal((16, 10)).astype(np.float32)
    return model, variables


@pytest.fixture
def converted(network, tmp_path):
    """Returns the folder of such weights, as `convert_weights.py` writes it."""
    model, variables = network
    write_weights(tmp_path / "weights", Weights(**variables, meta=Metadata(architecture_of(model))))
    return str(tmp_path / "weights")


def with_numpy(config, model, variables):
    """Returns logits and labels of the whole split, an image at a time."""
    source = open_source(config.data.dataset, config.data.eval_split, config.data.data_dir)
    transform = make_eval_transform(config)
    apply = quick_jit(model.apply)
    logits, labels = [], []
    for example in source.examples:
        pixels = transform(example["image"]).astype(np.float64) / 255
        image = (pixels - np.array(config.data.mean)) / np.array(config.data.std)
        logits.append(np.asarray(apply(variables, image[None].astype(np.float32)))[0])
        labels.append(int(example["label"]))
    return np.stack(logits).astype(np.float64), np.array(labels)


def test_score_is_exact_on_one_device_and_on_eight(
    make_config, network, converted, tmp_path, monkeypatch
):
    config = make_config()
    logits, labels = with_numpy(config, *network)
    order = np.argsort(-logits, axis=1)
    right = order[:, 0] == labels
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(EXAMPLES), labels]
    assert 0 < right.sum() < EXAMPLES

    scores = [score_checkpoint(config, converted)]
    one = jax.sharding.Mesh(
        np.array(jax.devices()[:1]).reshape(1, 1),
        ("data", "fsdp"),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    monkeypatch.setattr(scoring, "make_mesh", lambda _: one)
    scores.append(score_checkpoint(config, converted))
    for score in scores:
        values = score.values()
        assert values["examples"] == EXAMPLES
        assert score.evaluation.scores.metrics["top1"].total == right.sum()
        assert (
            score.evaluation.scores.metrics["top5"].total == (order[:, :5] == labels[:, None]).sum()
        )
        assert values["loss"] == pytest.approx(losses.mean(), rel=1e-5)
        assert f"({right.sum()} of {EXAMPLES})" in score.describe()

        write_score(score, tmp_path / "out")
        written = json.loads((tmp_path / "out" / "eval.json").read_text())
        assert written == values
        assert written["checkpoint"] == converted
        assert written["top1"] == pytest.approx(right.mean())
        with (tmp_path / "out" / "per_class.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["class"] for row in rows] == list("0123456789")
        for row in rows:
            of_class = labels == int(row["label"])
            assert int(row["examples"]) == of_class.sum()
            assert int(row["correct"]) == (right & of_class).sum()
            accuracy = pytest.approx(right[of_class].mean()) if of_class.any() else ""
            assert (float(row["top1"]) if row["top1"] else "") == accuracy


def test_a_wholly_bad_split_is_refused(make_config, converted, monkeypatch):
    nothing = Source([{"image": b"", "label": 0}] * 20, tuple("0123456789"), "nothing, test")
    monkeypatch.setattr(scoring, "open_split", lambda *_: nothing)
    with pytest.raises(UserError, match="none of the 20 images of nothing, test can be decoded"):
        score_checkpoint(make_config(on_bad_image="skip"), converted)


def test_classes_that_are_not_the_checkpoints_are_refused(make_config, network, tmp_path):
    _, variables = network
    other = create_model("tiny", num_classes=7)
    kept = jax.tree.map(lambda leaf: leaf[..., :7], variables["params"]["head"])
    sevens = {**variables, "params": {**variables["params"], "head": kept}}
    write_weights(tmp_path / "seven", Weights(**sevens, meta=Metadata(architecture_of(other))))
    with pytest.raises(ValueError, match="test.* has 10 classes, and .*seven tells 7 apart"):
        score_checkpoint(make_config(), str(tmp_path / "seven"))
    meta = Metadata(architecture_of(network[0]), class_names=[*"012345678", "nine"])
    write_weights(tmp_path / "named", Weights(**variables, meta=meta))
    with pytest.raises(ValueError, match="label 9 is '9' in .*, and 'nine' in .*named"):
        score_checkpoint(make_config(), str(tmp_path / "named"))


def test_command_writes_beside_the_checkpoint(make_config, converted, capsys):
    import train  # its flags, as they are when nothing is given

    config = make_config(init_from=converted)
    train._evaluate(config)
    said = capsys.readouterr().out
    assert said.startswith("top-1  ")
    assert f"of {EXAMPLES})" in said
    for name in ("eval.json", "per_class.csv"):
        assert f"{converted}/{name}" in said
        assert (Path(converted) / name).is_file()
    score_checkpoint(config, converted)  # which is as good a checkpoint as before
