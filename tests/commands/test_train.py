"""`train.py` as a person runs it: what is mistyped ends in a sentence and status 2."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shunted_jax.commands.command_line import unknown_field, without_flag

REPOSITORY = Path(__file__).parents[2]


def run_train(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "train.py"), *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(REPOSITORY),
            "XLA_FLAGS": "",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.optimizer.beta_1=0.8", "--config.optimizer.beta_1: .* did you mean 'beta1'"),
        ("--config.epochs.more=3", "config.epochs has no fields of its own"),
        ("-config.modle.name", "did you mean 'model'"),
        ("--config.zzz=1", "the names are accumulate_steps, augment, "),
        (
            "--config.model.attend_form=plain",
            "--config.model.attend_form: config.model has no field 'attend_form' any more: take "
            "'compute', which is one of auto, reference, pallas$",
        ),
    ],
)
def test_unknown_field_is_explained(argument, message):
    assert re.search(message, unknown_field(["train.py", "--config.epochs=3", argument]))


def test_flag_is_left_out_however_it_was_given():
    for given in (["--workdir=x"], ["--workdir", "x"], ["-workdir=x"], ["--workdir="], []):
        argv = ["train.py", "--config=y", *given, "--config.epochs=3"]
        assert without_flag("workdir", argv) == ["train.py", "--config=y", "--config.epochs=3"]


def test_known_fields_are_not_explained():
    assert (
        unknown_field(["train.py", "--config=x.py", "--config.model.name=y", "--workdir", "z"])
        is None
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.epoch=3"], "--config.epoch: config has no field 'epoch'; did you mean 'epoc"),
        (["--config.batch_size=many"], "--config.batch_size=many"),
        (["--config=nowhere.py"], "--config=nowhere.py: there is no such file"),
        (["--config.data.data_dir=nowhere"], "no data set 'digits' is prepared"),
        (["--mode=evaluate"], "--mode=evaluate"),
        (["--mode=eval"], "--mode=eval scores a checkpoint: name a run's folder with --workdir"),
        (["--mode=eval", "--workdir=x", "--step=5th"], "--step=5th: give a number, best or latest"),
        (["--distributed=yes"], "--distributed=yes has 1 of three parts: give"),
        (["--workdir=s3://bucket/run"], "s3://bucket/run: of addresses, those such as gs://"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments, message, tmp_path):
    result = run_train(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert result.stderr.startswith("train.py: ")
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
