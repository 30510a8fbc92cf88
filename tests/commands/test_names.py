"""Folders whose names a shell, a glob or a format takes for something else, in real processes."""

import json
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util

import shunted_jax
from shunted_jax.models.variables import abstract_variables
from tests.support.command_lines import run_each
from tests.support.small_run import saved_steps
from tests.support.tiny import TWO_STAGES

pytestmark = pytest.mark.proof
safetensors = pytest.importorskip("safetensors.numpy")

REPOSITORY = Path(__file__).parents[2]
TRAIN, CONVERT = (str(REPOSITORY / name) for name in ("train.py", "convert_weights.py"))

HEADS = {"num_heads": (2, 3), "num_classes": 5}
CONFIG = """
from shunted_jax.models import registry
from tests.support.tiny import TWO_STAGES, tiny_config

registry.VARIANTS["tiny"] = TWO_STAGES


def get_config():
    return tiny_config("~/data[1]", epochs=1.0)
"""
TRAINING = [TRAIN, "--config=~/small.py", "--workdir=~/run[1]"]
COMMANDS = {
    "prepare": ["shunted_jax.commands.prepare", "digits", "--data-dir=~/data[1]"],
    "train": TRAINING,
    "resume": TRAINING,
    "score": [*TRAINING[:2], "--mode=eval", "--config.init_from=~/run[1]", "--out=~/s[1]"],
    "export": [CONVERT, "--to-torch", "~/run[1]", "~/run[1].safetensors"],
    "convert": [CONVERT, "~/w[1].safetensors", "lr[1e-3]"],
    "export again": [CONVERT, "--to-torch", "../5/lr[1e-3]", "~/w?.safetensors"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Returns a home folder of a strange name, with a neighbour that its name matches."""
    folder = tmp_path_factory.mktemp("homes")
    (folder / "h[0-9]*?x").mkdir()
    (folder / "h1zzx" / "run1" / "checkpoints").mkdir(parents=True)
    home = folder / "h[0-9]*?x"
    (home / "small.py").write_text(CONFIG)
    # With the published 32 channels a head, nothing needs to be told.
    model = shunted_jax.ShuntedTransformer(**TWO_STAGES | {"embed_dims": (64, 96), **HEADS})
    leaves = {at: np.ones(x.shape, x.dtype) for at, x in abstract_variables(model).items()}
    tensors = shunted_jax.to_torch(model, traverse_util.unflatten_dict(leaves))
    safetensors.save_file(tensors, home / "w[1].safetensors")
    return home


@pytest.fixture(scope="module")
def ends(home):
    ends = run_each(
        home,
        list(COMMANDS.values()),
        HOME=str(home),
        JAX_COMPILATION_CACHE_DIR=str(home / "compiled"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    )
    return dict(zip(COMMANDS, ends, strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_does_its_work(command, ends):
    assert ends[command].status == 0, ends[command].errors
    assert "Traceback" not in ends[command].errors


def test_what_was_saved_is_read_by_all(ends, home):
    assert saved_steps(home / "run[1]") == [4]
    assert "this run is complete: evaluating its last checkpoint" in ends["resume"].errors
    assert json.loads((home / "s[1]" / "eval.json").read_text())["step"] == 4
    exported = safetensors.load_file(home / "run[1].safetensors")
    _, variables = shunted_jax.load_pretrained(home / "run[1]")
    np.testing.assert_array_equal(exported["head.bias"], variables["params"]["head"]["bias"])
    before, after = (
        safetensors.load_file(home / name) for name in ("w[1].safetensors", "w?.safetensors")
    )
    assert len(after) > 50
    for name, tensor in after.items():
        np.testing.assert_array_equal(tensor, before[name])


def test_nothing_lies_in_a_folder_called_tilde(ends, home):
    made = [{path.name for path in end.folder.iterdir()} for end in ends.values()]
    assert made == [set(), set(), set(), set(), set(), {"lr[1e-3]"}, set()]
    assert sorted(path.name for path in (home / "data[1]").iterdir()) == ["digits", "downloads"]
