"""Folders whose names a shell, a glob or a format takes for something else, in real processes."""

import json
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util

import shunted_jax
from tests.support.command_lines import run_each
from tests.support.small_run import saved_steps

REPOSITORY = Path(__file__).parents[2]
TRAIN, CONVERT = (str(REPOSITORY / name) for name in ("train.py", "convert_weights.py"))

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
    "score": [TRAIN, "--config=~/small.py", "--mode=eval", "--workdir=~/run[1]", "--out=~/s[1]"],
    "fine-tune": [*TRAINING[:2], "--workdir=r[x-y]", "--config.init_from=~/run[1]"],
    "export": [CONVERT, "--to-torch", "~/run[1]", "~/back[1].safetensors"],
    "convert": [CONVERT, "~/back[1].safetensors", "lr[1e-3]"],
    "export again": [CONVERT, "--to-torch", "../6/lr[1e-3]", "~/again?.safetensors"],
    "preview": ["shunted_jax.commands.preview", "--config=~/small.py", "--out=~/p*/x.png"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Returns a home folder of a strange name, with a neighbour that its name matches."""
    folder = tmp_path_factory.mktemp("homes")
    (folder / "h[0-9]*?x").mkdir()
    (folder / "h1zzx" / "run1" / "checkpoints").mkdir(parents=True)
    (folder / "h[0-9]*?x" / "small.py").write_text(CONFIG)
    return folder / "h[0-9]*?x"


@pytest.fixture(scope="module")
def ends(home):
    ends = run_each(
        home,
        list(COMMANDS.values()),
        HOME=str(home),
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
    assert "with its head of 10 classes" in ends["fine-tune"].errors
    assert json.loads((home / "s[1]" / "eval.json").read_text())["step"] == 4
    run, converted, fine_tuned = (
        traverse_util.flatten_dict(shunted_jax.load_pretrained(path)[1])
        for path in (home / "run[1]", home / "6" / "lr[1e-3]", home / "4" / "r[x-y]")
    )
    assert run.keys() == converted.keys() == fine_tuned.keys()
    for name, leaf in run.items():
        np.testing.assert_array_equal(leaf, converted[name])
    back, again = (home / f"{name}.safetensors" for name in ("back[1]", "again?"))
    assert back.read_bytes() == again.read_bytes()


def test_nothing_lies_in_a_folder_called_tilde(ends, home):
    numbered = {str(number): set() for number in range(len(COMMANDS))}
    made = {number: {path.name for path in (home / number).iterdir()} for number in numbered}
    assert made == numbered | {"4": {"r[x-y]"}, "6": {"lr[1e-3]"}}
    assert sorted(path.name for path in (home / "p*").iterdir()) == ["x.png"]
    assert sorted(path.name for path in (home / "data[1]").iterdir()) == ["digits", "downloads"]
