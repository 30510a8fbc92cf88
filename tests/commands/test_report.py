"""What a run says at its end works when it is typed as it is."""

import json
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from shunted_jax.commands.command_line import without_flag
from shunted_jax.commands.report import closing_report
from shunted_jax.config import Config, DataConfig, resolve
from shunted_jax.tasks.network import make_classifier
from shunted_jax.training.evaluation import Evaluation

REPOSITORY = Path(__file__).parents[2]


class Scores:
    examples = 3

    def values(self):
        return {"loss": 0.5}

    def texts(self):
        return {"top-1": "66.67 % (2 of 3)", "top-5": "100.00 %"}


@pytest.fixture
def ways_on(tmp_path, monkeypatch):
    """Returns a function that gives what is said of a run, by what it is for.

    The run was started in a folder with a space in its name.
    """
    here = tmp_path / "my runs"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "train.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")

    def report(*arguments, workdir="runs/a b", **fields):
        config = resolve(Config(data=DataConfig(dataset="digits"), epochs=30.0, **fields))
        run = types.SimpleNamespace(config=config, total_steps=9)
        text = closing_report(run, Evaluation(Scores()), Path(workdir), ["train.py", *arguments])
        assert text.startswith(
            "\ntest top-1  66.67 % (2 of 3)\ntest top-5  100.00 %, loss 0.5000\n"
        )
        files, _, commands = text.partition("\n\nto go on:\n")
        assert f"  checkpoint    {workdir}/checkpoints/9\n" in files
        return {line[2:16].strip(): line[16:] for line in commands.splitlines()}

    return report


def typed(line):
    """Returns the arguments that `train.py` gets where a line is typed into a shell."""
    done = subprocess.run(
        line, shell=True, capture_output=True, text=True, check=True, env={**os.environ}
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], []),
        (["--workdir=runs/a b", "--config.epochs=30"], []),
        (["--workdir", "runs/a b", "--config.epochs", "30", "-config.model.name=shunted_t"], []),
        (
            ["--config=my configs/x.py", "--config.data.data_dir=it's $HOME; ls"],
            ["--config=my configs/x.py", "--config.data.data_dir=it's $HOME; ls"],
        ),
    ],
)
def test_commands_reach_the_program_as_they_were_meant(ways_on, given, kept):
    ways = ways_on(*given)
    longer, other = typed(ways["train longer"]), typed(ways["another model"])
    of_model = [argument for argument in given if "model.name" in argument]
    of_epochs = without_flag("workdir", without_flag("config.model.name", given))
    assert longer == [*kept, *of_model, "--config.epochs=60"]
    assert other == [*without_flag("workdir", of_epochs), "--config.model.name=shunted_s"]


def test_commands_are_configurations_that_can_be_run(ways_on, monkeypatch):
    file = REPOSITORY / "configs" / "digits.py"
    ways = ways_on(f"--config={file}", "--config.epochs=30", "--workdir=runs/a b")
    found = {}
    for name in ("train longer", "another model"):
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", None, flag_values=values)
        argv = ["train.py", *typed(ways[name])]
        monkeypatch.setattr(sys, "argv", argv)  # where ml_collections looks for the fields
        values(argv)
        found[name] = resolve(values["config"].value)
        make_classifier(found[name], num_classes=10)
    assert (found["train longer"].epochs, found["train longer"].model.name) == (60, "shunted_t")
    assert (found["another model"].epochs, found["another model"].model.name) == (30, "shunted_s")


def test_weights_to_start_from_are_of_one_model(ways_on):
    assert "another model" not in ways_on("--config.init_from=out", init_from="out")
    assert "another model" in ways_on()


def test_the_other_lines_name_the_folder(ways_on):
    ways = ways_on()
    loaded = re.fullmatch(
        r"model, variables = shunted_jax.load_pretrained\((.*)\)", ways["in Python"]
    )
    assert loaded[1] == '"runs/a b"'
    install, show = ways["live curves"].split(" && ")
    python = shlex.split(install)[0]
    assert Path(python).absolute() == Path(sys.executable).absolute()
    assert shlex.split(install)[1:] == ["-m", "pip", "install", "tensorboard"]
    assert shlex.split(show) == [python, "-m", "tensorboard.main", "--logdir", "runs/a b"]


def test_an_interpreter_in_this_folder_is_found(ways_on, tmp_path, monkeypatch):
    interpreter = tmp_path / "my runs" / "python"
    interpreter.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    assert ways_on()["train longer"] == "./python train.py --config.epochs=60"
    assert typed(ways_on()["train longer"]) == ["--config.epochs=60"]
