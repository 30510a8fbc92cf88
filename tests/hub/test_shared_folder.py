"""Folders to share: what is in one, and that it gives back what its checkpoint holds."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

import convert_weights
import shunted_jax
from shunted_jax.checkpoints import Metadata, RunRecord, read_weights, write_weights
from shunted_jax.models.architecture import architecture_of
from tests.convert.files import save, small_weights, to_torch_tensors, torch

NAMES = ["cat", "dog", "`quoted`", "zebra", "\u00fcnlike"]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Returns the folder of a checkpoint, converted from a file with counters; it names classes."""
    folder, weights = tmp_path_factory.mktemp("converted"), small_weights()
    for name in weights:
        if name.endswith("num_batches_tracked"):
            weights[name] = np.asarray(1234)
    save(to_torch_tensors(weights), folder / "w`1`.pth")
    assert convert_weights.main([str(folder / "w`1`.pth"), str(folder / "out")]) == 0
    found = read_weights(folder / "out")
    meta = dataclasses.replace(found.meta, class_names=NAMES)
    write_weights(folder / "out", dataclasses.replace(found, meta=meta), overwrite=True)
    return folder / "out"


def share(*arguments, status=0):
    arguments = [str(argument) for argument in arguments]
    assert convert_weights.main(["--to-hub-folder", *arguments]) == status


def same(found, expected):
    assert found[0] == expected[0]
    jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])


def test_all_comes_back_bit_for_bit(converted, tmp_path, capsys):
    share(converted, tmp_path / "hub")
    said = capsys.readouterr().out
    assert f'load_pretrained("{tmp_path / "hub"}")' in said
    assert f"hf upload ORG/REPO {tmp_path / 'hub'}\n" in said
    names = {path.name for path in (tmp_path / "hub").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}
    same(shunted_jax.load_pretrained(tmp_path / "hub"), shunted_jax.load_pretrained(converted))
    with pytest.warns(UserWarning, match="has a head of 5 classes, and num_classes is 7"):
        shunted_jax.load_pretrained(tmp_path / "hub", num_classes=7)

    # To PyTorch it goes as the checkpoint does, and whoever has PyTorch alone reads it, too.
    for source, name in ((converted, "1.pth"), (tmp_path / "hub", "2.pth")):
        assert convert_weights.main(["--to-torch", str(source), str(tmp_path / name)]) == 0
    one, two = (torch.load(tmp_path / name) for name in ("1.pth", "2.pth"))
    from safetensors.torch import load_file

    for tensors in (two, load_file(tmp_path / "hub" / "model.safetensors")):
        assert tensors.keys() == one.keys()
        assert all(torch.equal(tensors[name], one[name]) for name in one)
    assert one["patch_embed1.conv.1.num_batches_tracked"] == 1234

    # A conversion of it is of the same network, and another folder to share of that is the same.
    assert convert_weights.main([str(tmp_path / "hub"), str(tmp_path / "again")]) == 0
    same(shunted_jax.load_pretrained(tmp_path / "again"), shunted_jax.load_pretrained(converted))
    assert read_weights(tmp_path / "again").meta.class_names == NAMES
    share(tmp_path / "hub", tmp_path / "hub2")
    for name in names:
        assert (tmp_path / "hub2" / name).read_bytes() == (tmp_path / "hub" / name).read_bytes()


def test_config_and_card_say_what_the_checkpoint_does(converted, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    share(converted, tmp_path / "hub")
    meta = read_weights(converted).meta
    assert json.loads((tmp_path / "hub" / "config.json").read_text()) == {
        "num_classes": 5,
        "num_features": 96,
        "label_names": NAMES,
        "shunted_jax": {
            "format_version": 2,
            "model": meta.model,
            "conversion": dataclasses.asdict(meta.conversion),
        },
    }
    text = (tmp_path / "hub" / "README.md").read_text()
    header = huggingface_hub.ModelCard(text).data.to_dict()
    assert header == {
        "library_name": "shunted-jax",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "shunted-transformer", "jax", "flax"],
    }
    model, variables = shunted_jax.load_pretrained(converted)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert f"| parameters | {parameters:,} |" in text
    assert "| classes | 5, named in `config.json` (`label_names`) |" in text
    assert (
        f"Converted from `w'1'.pth`, with the sha256 `{meta.conversion.source['sha256']}`." in text
    )
    assert "@inproceedings{ren2022shunted," in text
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    code, _, use = code.replace("hf://ORG/REPO", str(tmp_path / "hub")).partition("logits = ")
    assert use.startswith("model.apply(variables, images)")
    names = {}
    exec(code, names)
    same((names["model"], names["variables"]), (model, variables))


def test_of_a_run_the_average_is_had_and_nothing_of_its_machine(tmp_path, capsys):
    from shunted_jax.checkpoints import RunCheckpoints
    from shunted_jax.training.step.state import TrainState

    model, variables = shunted_jax.from_torch(small_weights(), num_classes=0)
    state = TrainState(
        step=jax.numpy.asarray(30),
        opt_state={},
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        ema_params=jax.tree.map(lambda leaf: leaf + 1, variables["params"]),
    )
    config, metrics = {"data": {"dataset": "/home/somebody/flowers"}}, {"eval_ema/top1": 0.91237}
    record = RunRecord(config=config, step=30, metrics=metrics, best_by="eval_ema/top1")
    with RunCheckpoints(tmp_path / "run" / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(state, Metadata(architecture_of(model), run=record))
    share(tmp_path / "run", tmp_path / "hub", "--ema")
    assert "30, the best by eval_ema/top1\n" in capsys.readouterr().out
    expected = shunted_jax.load_pretrained(tmp_path / "run", ema=True)
    same(shunted_jax.load_pretrained(tmp_path / "hub"), expected)
    config, card = ((tmp_path / "hub" / n).read_text() for n in ("config.json", "README.md"))
    assert "somebody" not in config + card
    assert "30 steps, the moving average of the parameters. The scores of its evaluation: " in card
    assert "eval_ema/top1 0.9124." in card
    assert "pipeline_tag: image-feature-extraction\n" in card


def test_what_is_there_stays_unless_it_is_to_be_replaced(converted, tmp_path, monkeypatch, capsys):
    share(converted, tmp_path / "hub")
    before = {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()}
    entries = set(tmp_path.iterdir())
    (tmp_path / "hub" / "mine.txt").write_text("kept")
    share(converted, tmp_path / "hub", status=2)
    assert "exists already" in capsys.readouterr().err

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("shunted_jax.hub.shared_folder.write_tensors", interrupted)
    for out, options in (("new", ()), ("hub", ("--overwrite",))):
        share(converted, tmp_path / out, *options, status=130)
    assert set(tmp_path.iterdir()) == entries
    assert (tmp_path / "hub" / "mine.txt").exists()
    monkeypatch.undo()
    share(converted, tmp_path / "hub", "--overwrite")
    assert {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()} == before
    assert set(tmp_path.iterdir()) == entries


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to-hub-folder", "--to-torch", "in", "out"], "leave the other options out"),
        (
            ["--to-hub-folder", "in", "out", "--check"],
            "--to-hub-folder takes a checkpoint as it is",
        ),
        (["--to-hub-folder", "none", "out"], "there is nothing at "),
        (
            ["--to-hub-folder", "none", "hf://people/shunted"],
            "a hub is read from, and nothing else",
        ),
        (["in", "out", "--ema"], "give it with --to-torch or --to-hub-folder"),
    ],
)
def test_what_cannot_be_asked_for_is_said(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert convert_weights.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_contradicts_itself_is_not_loaded(converted, tmp_path):
    share(converted, tmp_path / "hub")
    path = tmp_path / "hub" / "config.json"
    values = json.loads(path.read_text())
    own = values["shunted_jax"]
    for other, message in (
        (values | {"num_classes": 6}, "num_classes: 6 in config.json, 5 in the tensors"),
        (
            values | {"shunted_jax": own | {"model": own["model"] | {"embed_dims": [64, 192]}}},
            "the state dict does not fit the network",
        ),
        (values | {"shunted_jax": own | {"format_version": 9}}, "a newer program wrote it"),
        (values | {"shunted_jax": {}}, "model is missing"),
        (values | {"shunted_jax": own | {"format_version": "2"}}, "config.json is damaged"),
        (values | {"shunted_jax": own | {"model": "shunted_t"}}, "config.json is damaged"),
        (values | {"shunted_jax": own | {"conversion": 3}}, "config.json is damaged"),
        ({}, "does not say which network they are of: python convert_weights.py"),
    ):
        path.write_text(json.dumps(other))
        with pytest.raises(shunted_jax.errors.UserError, match=message):
            shunted_jax.load_pretrained(tmp_path / "hub")
