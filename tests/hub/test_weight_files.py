"""Folders of weights as transformers and accelerate write them, through the real command."""

import json

import pytest

import convert_weights
from shunted_jax.checkpoints import read_weights
from shunted_jax.errors import UserError
from shunted_jax.hub.config_file import read_config
from tests.convert.files import FIELDS, save, small_weights, to_torch_tensors
from tests.convert.test_files import assert_holds

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
PICKLED = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


def write_shards(folder, weights, names=SHARDS):
    """Writes weights in two files and their index; returns what each file holds."""
    folder.mkdir(exist_ok=True)
    order, tensors = sorted(weights), to_torch_tensors(weights)
    parts = dict(zip(names, (order[:20], order[20:]), strict=True))
    for name, held in parts.items():
        kind = "safetensors" if name.endswith(".safetensors") else "zip"
        save({tensor: tensors[tensor] for tensor in held}, folder / name, kind)
    index = "model.safetensors" if names is SHARDS else "pytorch_model.bin"
    write_index(folder, {n: part for part, held in parts.items() for n in held}, index)
    return parts


def write_index(folder, weight_map, name="model.safetensors"):
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{name}.index.json").write_text(json.dumps(index))


def refused(folder, capsys, *options):
    """Returns what the command says of a folder that it refuses, after checking that it did."""
    out = folder.parent / "out"
    assert convert_weights.main([str(folder), str(out), *options]) == 2
    assert not out.exists()
    return capsys.readouterr().err.removeprefix("convert_weights.py: ")


@pytest.mark.parametrize("names", [SHARDS, PICKLED])
def test_several_files_and_their_index(names, tmp_path, capsys):
    import hashlib

    weights = small_weights()
    write_shards(tmp_path / "in", weights, names)
    assert convert_weights.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert_holds(tmp_path / "out", weights)
    assert f"read        {names[0]}, {names[1]}\n" in capsys.readouterr().out
    content = b"".join((tmp_path / "in" / name).read_bytes() for name in names)
    assert read_weights(tmp_path / "out").meta.conversion.source == {
        "name": f"{names[0]}, {names[1]}",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_what_accelerate_saves_beside_the_weights_is_left_alone(tmp_path):
    weights = small_weights()
    (tmp_path / "in").mkdir()
    save(to_torch_tensors(weights), tmp_path / "in" / "pytorch_model.bin")
    assert convert_weights.main([str(tmp_path / "in"), str(tmp_path / "bin")]) == 0
    assert_holds(tmp_path / "bin", weights)
    newer = small_weights(seed=1)
    save(to_torch_tensors(newer), tmp_path / "in" / "model.safetensors", "safetensors")
    for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        (tmp_path / "in" / name).write_bytes(b"not read")
    assert convert_weights.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert_holds(tmp_path / "out", newer)


def test_config_tells_the_heads_and_the_names_and_must_not_contradict(tmp_path, capsys):
    # Heads of 16 channels, where the tensors alone would be read as of 32.
    odd = {"embed_dims": (64, 96), "num_heads": (4, 6)}
    weights, folder = small_weights(**odd), tmp_path / "in"
    folder.mkdir()
    save(to_torch_tensors(weights), folder / "model.safetensors", "safetensors")
    config = {**FIELDS, **odd, "id2label": dict(enumerate("abcde")), "drop_path_rate": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    assert convert_weights.main([str(folder), str(tmp_path / "ok")]) == 0
    assert_holds(tmp_path / "ok", weights, **odd)
    assert read_weights(tmp_path / "ok").meta.class_names == list("abcde")

    wrong = {"num_classes": 1000, "architecture": "shunted_t", "depths": [2, 2]}
    (folder / "config.json").write_text(json.dumps(config | wrong | {"label_names": ["a", "b"]}))
    said = refused(folder, capsys)
    for line in (
        "config.json is not of the weights beside it: correct it, or give the file of weights",
        "\n  num_classes: 1000 in config.json, 5 in the tensors",
        "\n  depths: [2, 2] in config.json, [2, 1] in the tensors",
        "\n  architecture: shunted_t in config.json, custom in the tensors",
        "\n  names of classes: 2 in config.json, 5 in the tensors",
    ):
        assert line in said
    (folder / "config.json").write_text(json.dumps(config | {"num_classes": 7}))
    assert convert_weights.main([str(folder), str(tmp_path / "backbone"), "--drop-head"]) == 0
    assert read_weights(tmp_path / "backbone").meta.class_names is None
    for content, message in (("[1]", "holds a JSON list"), ("{", "is damaged, and no JSON")):
        (folder / "config.json").write_text(content)
        assert message in refused(folder, capsys)


def test_indices_that_lie_are_said(tmp_path, capsys):
    weights, folder = small_weights(), tmp_path / "in"
    parts = write_shards(folder, weights)
    weight_map = {n: part for part, held in parts.items() for n in held}
    first, *_ = parts[SHARDS[0]]
    (tmp_path / "w.safetensors").write_bytes(b"elsewhere")
    index = folder / "model.safetensors.index.json"

    for outside in ("../w.safetensors", "/etc/passwd", "a/../../w.safetensors", ""):
        write_index(folder, weight_map | {first: outside})
        said = refused(folder, capsys)
        assert f"{index} names a file outside of its folder, {outside!r}" in said
    write_index(folder, weight_map | {first: "model-3.safetensors"})
    assert "lists 3 files, and model-3.safetensors is not there: down" in refused(folder, capsys)
    write_index(folder, weight_map | {first: "\x1b[2J\n.safetensors"})
    assert "and \\x1b[2J\\n.safetensors is not there" in refused(folder, capsys)
    write_index(folder, weight_map | {"head.gamma": SHARDS[0]})
    said = refused(folder, capsys)
    assert f"it has head.gamma in {SHARDS[0]}, and head.gamma is in none (of 105 t" in said
    write_index(folder, weight_map | {first: SHARDS[1]})
    said = refused(folder, capsys)
    assert f"it has {first} in {SHARDS[1]}, and {first} is in {SHARDS[0]}" in said
    for content in ("{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'):
        index.write_text(content)
        assert "lists no tensors under weight_map" in refused(folder, capsys)
    index.write_text('{"weight_map":' * 10**5)
    assert "is damaged, and no JSON" in refused(folder, capsys)

    write_index(folder, weight_map)
    tensors = to_torch_tensors(weights)
    save({n: tensors[n] for n in weights}, folder / SHARDS[1], "safetensors")
    said = refused(folder, capsys)
    assert f" is in two files, {SHARDS[0]} and {SHARDS[1]}, and which one is right" in said
    (folder / "model.safetensors").write_bytes(b"")
    assert "holds both model.safetensors and model.safetensors.index.json" in refused(
        folder, capsys
    )


def test_files_of_an_index_hold_tensors_alone(tmp_path, capsys):
    weights, folder = small_weights(), tmp_path / "in"
    write_shards(folder, weights, PICKLED)
    tensors = to_torch_tensors(weights)
    save({"model": tensors}, folder / PICKLED[1])
    assert "holds more than tensors" in refused(folder, capsys)
    save([tensors], folder / PICKLED[1])
    assert "holds a list, not a mapping of names to tensors" in refused(folder, capsys)


def test_a_config_saved_on_windows_is_read_and_a_folder_in_its_place_is_said(tmp_path):
    config = tmp_path / "config.json"
    config.write_bytes(b"\xef\xbb\xbf" + json.dumps({"num_heads": [2]}).encode())
    assert read_config(tmp_path).num_heads == (2,)
    config.unlink()
    config.mkdir()
    with pytest.raises(UserError, match=r"config.json cannot be read: Is a directory"):
        read_config(tmp_path)
