"""A checkpoint's score against plain numpy, and the files that it is written to."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver

from shunted_jax.checkpoints import Metadata, Weights, write_weights
from shunted_jax.config import resolve
from shunted_jax.data.recipe import make_eval_transform
from shunted_jax.data.sources import Source, open_source
from shunted_jax.errors import UserError
from shunted_jax.models import create_model
from shunted_jax.models.architecture import architecture_of
from shunted_jax.training import scoring
from shunted_jax.training.scoring import score_checkpoint, write_score
from tests.data.images import write_tree
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


@pytest.fixture
def write_named(network, tmp_path):
    """Returns a function that writes the weights with a head for named classes; "0" to "9" among
    them have the outputs that they have in `network`, and the others are the likeliest."""
    _, variables = network

    def write(names):
        known = [str(label) for label in range(10)]
        kept = [known.index(name) if name in known else 0 for name in names]
        head = {name: leaf[..., kept].copy() for name, leaf in variables["params"]["head"].items()}
        head["bias"][[name not in known for name in names]] = 100
        model = create_model("tiny", num_classes=len(names))
        write_weights(
            tmp_path / "named",
            Weights(
                params={**variables["params"], "head": head},
                batch_stats=variables["batch_stats"],
                meta=Metadata(architecture_of(model), class_names=list(names)),
            ),
            overwrite=True,
        )
        return str(tmp_path / "named")

    return write


def test_classes_that_are_not_the_checkpoints_are_refused(make_config, write_named):
    config = make_config()
    with pytest.raises(ValueError, match="test.* has 10 classes, and .*named tells 7 apart: score"):
        score_checkpoint(config, write_named("0123456"))
    with pytest.raises(ValueError, match="label 9 is '9' in .*, and 'nine' in .*named: score it"):
        score_checkpoint(config, write_named([*"012345678", "nine"]))
    among = "are all among the checkpoint's: add --map-classes"
    for names in (["ten", *"0123456789"], "9876543210"):
        with pytest.raises(ValueError, match=among):
            score_checkpoint(config, write_named(names))


def test_classes_are_found_among_more_by_their_names(
    make_config, network, converted, write_named, tmp_path, capsys
):
    import train

    expected = score_checkpoint(make_config(), converted).values()
    assert 0 < expected["top1"] < 1
    path = write_named(["ten", *"4071", "eleven", *"938265"])
    with flagsaver.flagsaver(**{"map-classes": True}, out=str(tmp_path / "out")):
        train._evaluate(make_config(init_from=path))
    assert capsys.readouterr().out.startswith("top-1  ")
    found = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert (found["classes"], found["classes_of_checkpoint"]) == (10, 12)
    for name in ("top1", "top5", "examples"):
        assert found[name] == expected[name]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    with (tmp_path / "out" / "per_class.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == list("0123456789")


def test_classes_that_cannot_be_found_are_listed(make_config, converted, write_named, tmp_path):
    def score(path, **data):
        return score_checkpoint(make_config(**data), path, map_classes=True)

    with pytest.raises(
        ValueError,
        match=r"2 of the 10 classes of digits, .* are none of the 9 that .*named tells apart, such "
        r"as 'ten', '0', '1', \.\.\.; take them out of the data: '8', '9'$",
    ):
        score(write_named(["ten", *"01234567"]))
    with pytest.raises(ValueError, match="weights does not have the names of its 10 classes"):
        score(converted)
    twice = write_tree(tmp_path, {"test": {"n01440764": 1, "n01440764 tench": 1, "n01443537": 1}})
    with pytest.raises(ValueError, match="several names for one.*: 'n01440764', 'n01440764 tench'"):
        score(write_named(["n01440764", "n01443537"]), dataset=f"{twice}/", eval_split="test")
    # ImageNet's words have two classes that are called crane: a bird and a machine.
    birds = write_tree(tmp_path / "birds", {"test": {"crane": 1, "owl": 1}})
    cranes = write_named(["crane", "owl", "crane"])
    with pytest.raises(ValueError, match="named has several classes of one name.*data: 'crane'$"):
        score(cranes, dataset=birds, eval_split="test")
    with pytest.raises(ValueError, match=r"tells 3 apart: score it on the data that it was"):
        score_checkpoint(make_config(dataset=birds, eval_split="test"), cranes)


def test_converted_imagenet_weights_know_their_synsets(make_config, network, tmp_path):
    model, variables = network
    head = {
        name: np.resize(leaf, (*leaf.shape[:-1], 1000))
        for name, leaf in variables["params"]["head"].items()
    }
    weights = Weights(
        params={**variables["params"], "head": head},
        batch_stats=variables["batch_stats"],
        meta=Metadata(architecture_of(model.clone(num_classes=1000))),
    )
    write_weights(tmp_path / "imagenet", weights)
    tree = write_tree(tmp_path / "data", {"test": {"n01440764": 1, "n01443537": 1}})
    with pytest.raises(
        ValueError, match="has 2 classes, and .* tells 1,000 apart: .* add --map-classes"
    ):
        score_checkpoint(make_config(dataset=tree, eval_split="test"), str(tmp_path / "imagenet"))


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
