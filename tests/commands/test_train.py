"""`train.py` as a person runs it: what is mistyped ends in a sentence and status 2."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shunted_jax.commands.command_line import unknown_field, without_flag

REPOSITORY = Path(__file__).parents[2]


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


MISTAKES = [
    (["--config.epoch=3"], "--config.epoch: config has no field 'epoch'; did you mean 'epochs'?"),
    (["--config.batch_size=many"], "--config.batch_size=many"),
    (["--config=nowhere.py"], "--config=nowhere.py: there is no such file"),
    (["--config.data.data_dir=nowhere"], "no data set 'digits' is prepared"),
    (["--mode=evaluate"], "--mode=evaluate"),
    (["--mode=eval"], "--mode=eval scores a checkpoint: name a run's folder with --workdir"),
    (["--mode=eval", "--workdir=x", "--step=5th"], "--step=5th: give a number, best or latest"),
    (["--map-classes"], "--map-classes is for scoring: add --mode=eval, or leave it out"),
    (["--distributed=yes"], "--distributed=yes has 1 of three parts: give"),
    (["--workdir=s3://bucket/run"], "s3://bucket/run: of addresses, those such as gs://"),
]

# Importing takes most of the time of a command line that ends in a sentence: it is done once, and
# each command line has a process of its own after it.
PROGRAM = """
import json
import os
import runpy
import sys
import traceback

import shunted_jax.commands.report
import shunted_jax.training.scoring

train, *command_lines = json.loads(sys.argv[1])
statuses = []
for number, arguments in enumerate(command_lines):
    os.mkdir(str(number))
    child = os.fork()
    if not child:
        status = 0
        try:
            os.dup2(os.open(f"{number}.txt", os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
            os.chdir(str(number))
            sys.argv = [train, *arguments]
            runpy.run_path(train, run_name="__main__")
        except SystemExit as error:
            status = error.code
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Returns each mistake's status, what was said on stderr, and the folder it was made in."""
    folder = tmp_path_factory.mktemp("mistakes")
    command_lines = [arguments for arguments, _ in MISTAKES]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([str(REPOSITORY / "train.py"), *command_lines])],
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    statuses = json.loads(done.stdout.splitlines()[-1])
    return [
        (status, (folder / f"{number}.txt").read_text(), folder / str(number))
        for number, status in enumerate(statuses)
    ]


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes_end_in_a_sentence(number, ends):
    status, said, folder = ends[number]
    assert status == 2, said
    assert MISTAKES[number][1] in said
    assert said.startswith("train.py: ")
    assert "Traceback" not in said
    assert not list(folder.iterdir())
