"""`train.py` as a person runs it: what is mistyped ends in a sentence and status 2."""

import re
from pathlib import Path

import pytest

from shunted_jax.commands.command_line import unknown_field, without_flag
from tests.support.command_lines import run_each

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
    (["--workdir=../file/run"], "../file/run: "),
    (["--workdir=../file"], "/file is a file, and must be a folder: name another"),
    (["--workdir=../taken"], "/taken/checkpoints is a file, and must be a folder: name another"),
    (["--workdir=a\\b"], "a\\\\b' has a backslash in it, and arrays would be written elsewhere"),
    (["--workdir=~nobody-here/x"], "~nobody-here/x: there is no home folder ~nobody-here here"),
    (["--config=~nobody-here/x.py"], "there is no home folder ~nobody-here"),
    (["--mode=eval", "--workdir=x", "--out=../file"], "/file is a file, and must be a folder"),
]


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "taken").mkdir()
    for name in ("file", "taken/checkpoints"):
        (folder / name).touch()
    train = str(REPOSITORY / "train.py")
    return run_each(folder, [[train, *arguments] for arguments, _ in MISTAKES])


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes_end_in_a_sentence(number, ends):
    end = ends[number]
    assert end.status == 2, end.errors
    assert MISTAKES[number][1] in end.errors
    assert end.errors.startswith("train.py: ")
    assert "Traceback" not in end.errors
    assert not list(end.folder.iterdir())
