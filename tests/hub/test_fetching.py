"""Weights on a hub, by the real `huggingface_hub` and a server that runs here."""

import json
import logging
import sys

import jax
import numpy as np
import optax
import pytest
from absl.testing import flagsaver

import convert_weights
import shunted_jax
from shunted_jax.checkpoints import read_weights
from shunted_jax.commands.export import export_folder
from shunted_jax.config import Config
from shunted_jax.errors import RunError, UserError
from shunted_jax.pretrained import read_weights_for
from shunted_jax.training.fine_tuning import initialize_from
from shunted_jax.training.step.state import state_of
from tests.convert.files import small_weights, to_torch_tensors
from tests.support.hub_server import commit_of, running_hub, use_hub

REPOSITORY = "people/shunted"


@pytest.fixture(scope="module")
def server():
    with running_hub() as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Returns the files of a folder to share, and of the checkpoint that it was made of."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("shared")
    save_file(to_torch_tensors(small_weights()), folder / "w.safetensors")
    assert convert_weights.main([str(folder / "w.safetensors"), str(folder / "out")]) == 0
    export_folder(folder / "out", folder / "hub")
    files = {path.name: path.read_bytes() for path in (folder / "hub").iterdir()}
    return files, shunted_jax.load_pretrained(folder / "out")


@pytest.fixture
def hub(server, shared, tmp_path, monkeypatch):
    """Returns the server with one repository, of two revisions; what it was asked is forgotten."""
    files = {**shared[0], "pytorch_model.bin": b"not asked for", "train_log.txt": b"long"}
    server.repositories = {REPOSITORY: {"main": files, "v1": files}}
    server.refused = {}
    server.asked.clear()
    use_hub(monkeypatch, server.url, tmp_path / "cache")
    return server


def same(found, expected):
    assert found[0] == expected[0]
    jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])


def test_what_is_needed_is_fetched_once_and_found_again_without_the_hub(
    hub, shared, tmp_path, monkeypatch, capfd
):
    same(shunted_jax.load_pretrained(f"hf://{REPOSITORY}"), shared[1])
    assert sorted(hub.fetched()) == ["config.json", "model.safetensors"]
    same(shunted_jax.load_pretrained(f"hf://{REPOSITORY}@v1"), shared[1])
    assert sorted(hub.fetched()) == ["config.json", "model.safetensors"]  # the same contents
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("huggingface_hub").level != logging.ERROR

    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache", HF_HUB_OFFLINE="1")
    same(shunted_jax.load_pretrained(f"hf://{REPOSITORY}"), shared[1])
    same(shunted_jax.load_pretrained(f"hf://{REPOSITORY}@v1"), shared[1])
    weights, classes = read_weights_for(shared[1][0], f"hf://{REPOSITORY}")  # to fine-tune from
    assert (weights.params.keys(), classes) == (shared[1][1]["params"].keys(), 5)
    with pytest.raises(UserError, match=r"@v2 is not in the cache .*cache.hub, and HF_HUB_OFFLINE"):
        shunted_jax.load_pretrained(f"hf://{REPOSITORY}@v2")
    with pytest.raises(UserError, match="is no run's: there is no step 3 to choose in it"):
        shunted_jax.load_pretrained(f"hf://{REPOSITORY}", step=3)


def test_a_run_starts_from_a_hub_and_is_scored_into_a_folder(hub, shared, tmp_path):
    import train

    address, (model, variables) = f"hf://{REPOSITORY}", shared[1]
    fresh = state_of(jax.tree.map(jax.numpy.zeros_like, variables), optax.identity())
    start = initialize_from(address, model, ("a", "b", "c", "d", "e"), lambda key: fresh)
    assert hub.asked == []  # before it is needed
    same((model, start(jax.random.key(0)).variables), shared[1])

    config = Config(init_from=address)
    with flagsaver.flagsaver(mode="eval", out=str(tmp_path)):
        train._check_folders(config, tmp_path)
    with flagsaver.flagsaver(mode="eval"), pytest.raises(UserError, match="a folder for .*--out"):
        train._check_folders(config, tmp_path)


def test_a_strangers_repository_is_converted_and_says_where_it_is_from(hub, tmp_path, capfd):
    weights = small_weights()
    names = sorted(weights)
    parts = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    from safetensors.numpy import save

    files = {part: save({n: weights[n] for n in held}) for part, held in parts.items()}
    index = {"weight_map": {n: part for part, held in parts.items() for n in held}}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    files["pytorch_model.bin"] = files["c.safetensors"] = b"not asked for"
    hub.repositories[REPOSITORY] = {"refs/pr/1": files}
    address = f"hf://{REPOSITORY}@refs/pr/1"
    assert convert_weights.main([address, str(tmp_path / "out")]) == 0
    assert sorted(hub.fetched()) == [*sorted(parts), "model.safetensors.index.json"]
    said = capfd.readouterr()
    assert "  read        a.safetensors, b.safetensors\n" in said.out
    assert said.err == ""
    source = read_weights(tmp_path / "out").meta.conversion.source
    assert source["repository"] == REPOSITORY
    assert source["revision"] == commit_of(REPOSITORY, "refs/pr/1")
    with pytest.raises(UserError, match=rf"python convert_weights.py {address} OUT makes a check"):
        shunted_jax.load_pretrained(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://people/none", "there is no hf://people/none that can be seen from here: check its"),
        ("hf://people/private", "if it is private, `hf auth login` tells the hub who you are"),
        ("hf://people/gated", "lets in only people whom its owner has admitted"),
        (f"hf://{REPOSITORY}@v9", f"{REPOSITORY} has no revision 'v9': take a branch, a tag or a"),
        ("hf://people/empty", "so no weights that can be read: it has README.md"),
        ("hf://people/file", "hf download people/file ckpt_T.pth --local-dir . fetches one of its"),
        ("hf://people", "a hub's address is hf://ORG/REPO or hf://ORG/REPO@REVISION"),
        ("hf://people/shunted/folder", "a hub's address is hf://ORG/REPO or"),
        ("hf://people/shunted@", "a hub's address is hf://ORG/REPO or"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(hub, address, message, tmp_path, capfd):
    hub.repositories["people/empty"] = {"main": {"README.md": b""}}
    hub.repositories["people/file"] = {"main": {"ckpt_T.pth": b"", "README.md": b""}}
    hub.refused = {"people/private": (401, None), "people/gated": (403, "GatedRepo")}
    assert convert_weights.main([address, str(tmp_path / "out")]) == 2
    said = capfd.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "out").exists()


def test_a_hub_out_of_reach_is_said_in_a_sentence(hub, tmp_path, monkeypatch, capfd):
    hub.refused = {REPOSITORY: (500, None)}
    with pytest.raises(RunError, match=r"cannot be fetched \(HfHubHTTPError: .*HF_HUB_OFFLINE=1 "):
        shunted_jax.load_pretrained(f"hf://{REPOSITORY}")
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert convert_weights.main([f"hf://{REPOSITORY}", str(tmp_path / "out")]) == 1
    said = capfd.readouterr().err
    assert "cannot be fetched (ConnectError: " in said
    assert said.count("\n") == 1


def test_without_the_package_the_command_for_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="to read from a hub, pip install huggingface_hub saf"):
        shunted_jax.load_pretrained("hf://people/shunted")


def test_a_hub_is_not_written_to():
    with pytest.raises(UserError, match=r"a hub is read from, .*`hf upload` takes there"):
        convert_weights.convert_file("w.pth", "hf://people/shunted")
