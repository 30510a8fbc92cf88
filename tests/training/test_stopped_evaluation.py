"""SIGTERM during an evaluation: broken off, and made up for by who goes on."""

import logging
import os
import signal

import jax
import numpy as np
import pytest

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.checkpoints.folders import checkpoint_folder
from shunted_jax.errors import PreemptedError, UserError
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.tasks import classification
from shunted_jax.training import loop
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run
from tests.support.small_run import learned
from tests.training.test_loop import restored

pytestmark = pytest.mark.proof

BATCHES = 3  # 37 images, 16 at a time


@pytest.fixture
def evaluations(monkeypatch):
    """Has some evaluations end with SIGTERM; returns how many batches each one took.

    Their numbers, counted from 1, are to be put into `told`.
    """
    eval_batches = classification.eval_batches

    class Counted:
        def __init__(self, *arguments, **place):
            self.batches = eval_batches(*arguments, **place)
            taken.append(0)

        def __iter__(self):
            for batch in self.batches:
                taken[-1] += 1
                if len(taken) in told:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        def close(self):
            self.batches.close()

    taken, told = [], set()
    monkeypatch.setattr(classification, "eval_batches", Counted)
    return taken, told


def metrics_of(workdir, step):
    with RunCheckpoints(workdir / "checkpoints", keep=9) as checkpoints:
        return checkpoints.restore_meta(step).run.metrics


def test_run_goes_on_as_if_it_had_not_been_disturbed(make_config, evaluations, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="shunted_jax")
    run = make_run(make_config(keep_checkpoints=9))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_and_evaluate(run, whole)
    taken, told = evaluations
    assert taken == [BATCHES] * 3
    taken.clear()

    # After steps 3 and 6; once more when that is made up for; after the last step.
    told |= {2, 3, 5}
    for step in (6, 6, 9):
        with pytest.raises(PreemptedError, match=rf"SIGTERM after step {step}, which is saved"):
            train_and_evaluate(run, parts)
        assert metrics_of(parts, step) == {}
        assert read_metrics(parts / "metrics.jsonl")[-1].keys() >= {"train/loss"}
    assert "evaluating it, as it was saved without" in caplog.text
    train_and_evaluate(run, parts)
    # One batch is on its way to the devices when the next is asked for.
    assert taken == [BATCHES, 2, 2, BATCHES, 2, BATCHES]

    jax.tree.map(np.testing.assert_array_equal, restored(run, whole), restored(run, parts))
    logs = [learned(read_metrics(path / "metrics.jsonl")) for path in (whole, parts)]
    assert logs[0] == logs[1]
    for step in (3, 6, 9):
        assert metrics_of(whole, step) == metrics_of(parts, step) != {}
    best = [checkpoint_folder(path, "best")[0].name for path in (whole, parts)]
    assert best[0] == best[1]


def test_a_bad_image_of_the_evaluation_costs_no_step(make_config, tmp_path, monkeypatch):
    run = make_run(make_config(epochs=2.0, keep_checkpoints=9))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_and_evaluate(run, whole)
    with monkeypatch.context() as patch:

        def refuse(*arguments):
            raise UserError("example 3 of digits, test cannot be decoded")

        patch.setattr(loop, "evaluate", refuse)
        for _ in range(2):  # the second time, what was saved is evaluated first
            with pytest.raises(UserError, match="example 3"):
                train_and_evaluate(run, parts)
            assert metrics_of(parts, 3) == {}
    train_and_evaluate(run, parts)
    jax.tree.map(np.testing.assert_array_equal, restored(run, whole), restored(run, parts))
    assert metrics_of(whole, 3) == metrics_of(parts, 3) != {}


def test_making_up_that_was_cut_off_leaves_no_record_twice(make_config, evaluations, tmp_path):
    run = make_run(make_config(epochs=1.0))
    evaluations[1].add(1)
    with pytest.raises(PreemptedError):
        train_and_evaluate(run, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpoints, "add_metrics", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_and_evaluate(run, tmp_path)
    train_and_evaluate(run, tmp_path)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [("eval/top1" in record, record["step"]) for record in records] == [
        (False, 2),
        (False, 3),
        (True, 3),
    ]
    assert metrics_of(tmp_path, 3)["eval/top1"] == records[-1]["eval/top1"]
