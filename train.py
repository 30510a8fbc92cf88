"""Trains a Shunted Transformer.

    python train.py --config=configs/digits.py
    python train.py --config=configs/digits.py --config.epochs=2 --workdir=runs/short
    python train.py --config=configs/digits.py --workdir=runs/short --mode=eval

Every field of the configuration can be set on the command line. Started again with the same
--workdir, a run goes on from its latest checkpoint. With --mode=eval nothing is trained: the run's
best checkpoint is scored, or that of --config.init_from where there is no --workdir. On several
hosts, start it on each of them: docs/training.md.
"""

import datetime
import sys
from pathlib import Path

import jax
from absl import flags
from etils import epath
from ml_collections import config_flags

from shunted_jax.commands import command_line
from shunted_jax.commands.report import closing_report, write_pictures
from shunted_jax.config import Config
from shunted_jax.errors import UserError
from shunted_jax.hub.address import hub_address
from shunted_jax.platforms import check_platforms
from shunted_jax.pretrained import check_source
from shunted_jax.resources import check_writable, writing_into
from shunted_jax.storage import as_path, in_bucket, reachable
from shunted_jax.training.devices import distributed
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run
from shunted_jax.training.scoring import score_checkpoint, write_score

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "digits.py"

config_flags.DEFINE_config_file("config", None, "What to train, on what, how: a file in configs/.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run's folder, or gs://BUCKET/FOLDER; a new one below runs/ if not given."
)
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or score a checkpoint.")
STEP = flags.DEFINE_string(
    "step", "best", "Which of a run's checkpoints --mode=eval scores: a number, best or latest."
)
OUT = flags.DEFINE_string(
    "out", None, "Where --mode=eval writes; the checkpoint's own folder if not given."
)
MAP_CLASSES = flags.DEFINE_bool(
    "map-classes",
    False,
    "With --mode=eval, score on data that have some of the checkpoint's classes: they are found by "
    "their names or synsets, and all others do not count.",
)
DISTRIBUTED = flags.DEFINE_string("distributed", "auto", distributed.HELP)


def main(argv: list[str]) -> None:
    """Builds the run, trains it, reports; or scores a checkpoint."""
    del argv
    command_line.log_to_stderr()
    config, name = command_line.config_from_flag("config")
    started = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    workdir = as_path(WORKDIR.value or f"runs/{name}/{started}")
    _check_folders(config, workdir)  # before anything is built
    if MAP_CLASSES.value and MODE.value != "eval":
        raise UserError("--map-classes is for scoring: add --mode=eval, or leave it out")
    distributed.connect(DISTRIBUTED.value)
    command_line.log_to_stderr()  # again: from here on, one process speaks
    check_platforms()
    if MODE.value == "eval":
        _evaluate(config)
        return
    if WORKDIR.value is None and jax.process_count() > 1:
        raise UserError(
            f"{jax.process_count()} processes train as one: name a folder that all of them see, "
            "with --workdir"
        )
    run = make_run(config)
    if distributed.is_first_process():
        print(f"{name}: into {workdir}\n{run.describe()}", flush=True)
    evaluation = train_and_evaluate(run, workdir)
    if not distributed.is_first_process():
        return
    with writing_into(workdir):
        write_pictures(run, evaluation, workdir)
    print(closing_report(run, evaluation, workdir, sys.argv))


def _check_folders(config: Config, workdir: epath.Path) -> None:
    checkpoints = written = workdir
    if MODE.value == "eval":
        checkpoints = WORKDIR.value or config.init_from
        written = OUT.value or checkpoints
        if OUT.value is None and checkpoints is not None and hub_address(checkpoints):
            raise UserError(
                f"{checkpoints}: scores are not written to a hub: name a folder for them with --out"
            )
    if checkpoints is not None:
        check_source(checkpoints)
    if written is not None and not in_bucket(there := reachable(written)):
        check_writable(there)
        if MODE.value != "eval":
            check_writable(workdir / "checkpoints")  # first written to after an epoch


def _evaluate(config: Config) -> None:
    path = WORKDIR.value or config.init_from
    if path is None:
        raise UserError(
            "--mode=eval scores a checkpoint: name a run's folder with --workdir, or converted "
            "weights with --config.init_from"
        )
    if STEP.value not in ("best", "latest") and not STEP.value.isdecimal():
        raise UserError(f"--step={STEP.value}: give a number, best or latest")
    step = int(STEP.value) if STEP.value.isdecimal() else STEP.value
    score = score_checkpoint(config, path, step, map_classes=MAP_CLASSES.value)
    out = as_path(OUT.value or path)
    with writing_into(out):
        write_score(score, out)
    if distributed.is_first_process():
        print(f"{score.describe()}\n\n  {out / 'eval.json'}\n  {out / 'per_class.csv'}")


if __name__ == "__main__":
    command_line.run(main, default_config=DEFAULT_CONFIG)
