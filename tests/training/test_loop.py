"""A whole run on real files: what it writes, how it goes on, what it refuses."""

import json
import logging

import jax
import numpy as np
import pytest
from etils import epath

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.commands.report import closing_report, write_pictures
from shunted_jax.errors import LockError
from shunted_jax.locks import Lock
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run
from shunted_jax.training.scoring import score_checkpoint
from tests.support.small_run import learned


def restored(run, workdir):
    with RunCheckpoints(workdir / "checkpoints", keep=2) as checkpoints:
        step = checkpoints.latest_step
        return step, jax.device_get(checkpoints.restore(step, run.programs.abstract_state))


@pytest.mark.accelerator
def test_run_leaves_what_it_promises(make_config, tmp_path):
    run = make_run(make_config())
    workdir = tmp_path / "run"
    evaluation = train_and_evaluate(run, workdir)

    records = read_metrics(workdir / "metrics.jsonl")
    assert [record["step"] for record in records if "train/loss" in record] == [2, 3, 4, 6, 8, 9]
    assert [record["step"] for record in records if "eval/top1" in record] == [3, 6, 9]
    training, last = records[0], records[-1]
    assert {"train/top1", "train/grad_norm", "train/learning_rate", "images_per_second"} <= set(
        training
    )
    assert last.keys() == {"step", "eval/loss", "eval/top1", "eval/top5"}
    assert all(np.isfinite(list(record.values())).all() for record in records)

    scores = evaluation.scores
    right = np.sum(scores.labels == scores.predictions)
    assert len(scores.labels) == scores.examples == 37
    assert last["eval/top1"] == pytest.approx(right / 37)
    top1 = f"top-1 {100 * right / 37:.2f} % ({right} of 37)"
    assert evaluation.headline() == top1
    assert evaluation.in_a_line(3) == f"epoch 3.0: test {top1}, loss {last['eval/loss']:.4f}"
    assert 0 <= last["eval/top1"] <= last["eval/top5"] <= 1
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))

    step, state = restored(run, workdir)
    assert step == state.step == 9
    with RunCheckpoints(workdir / "checkpoints", keep=2) as checkpoints:
        meta = checkpoints.restore_meta(step)
    assert meta.model["embed_dims"] == [8, 16]
    assert meta.class_names == list("0123456789")
    assert json.dumps(meta.to_json())

    write_pictures(run, evaluation, workdir)
    for picture in ("curves.png", "predictions.png"):
        assert (workdir / picture).read_bytes().startswith(b"\x89PNG")
    report = closing_report(run, evaluation, workdir, ["train.py"])
    top5 = f"{100 * last['eval/top5']:.2f} %, loss {last['eval/loss']:.4f}"
    assert report.startswith(f"\ntest top-1  {top1[6:]}\ntest top-5  {top5}\n\n")
    for said in ("checkpoints/9", "metrics.jsonl", "predictions.png"):
        assert said in report


def test_interrupted_run_goes_on_bit_for_bit(make_config, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="shunted_jax")
    run = make_run(make_config(ema_decay=0.5))
    train_and_evaluate(run, tmp_path / "whole")

    save = RunCheckpoints.save

    def save_then_break_off(self, state, meta):
        save(self, state, meta)
        if meta.run.step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoints, "save", save_then_break_off)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(run, tmp_path / "parts")
    assert f"saved up to step 6; go on with --workdir={tmp_path / 'parts'}" in caplog.text
    assert restored(run, tmp_path / "parts")[0] == 6
    train_and_evaluate(run, tmp_path / "parts")

    whole, parts = restored(run, tmp_path / "whole"), restored(run, tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, whole, parts)

    def log(workdir):
        return learned(read_metrics(workdir / "metrics.jsonl"))

    assert log(tmp_path / "whole") == log(tmp_path / "parts")
    # Started once more, the finished run is only evaluated.
    again = train_and_evaluate(run, tmp_path / "parts")
    assert log(tmp_path / "whole") == log(tmp_path / "parts")
    last = log(tmp_path / "parts")[-1]
    assert {"step": 9} | again.values() == last
    assert last["eval/loss"] != last["eval_ema/loss"]

    # What the checkpoint is worth to --mode=eval, parameters and their average.
    score = score_checkpoint(run.config, str(tmp_path / "parts"), "latest").values()
    assert score["step"] == 9
    for name in ("loss", "top1", "top5"):
        assert score[name] == pytest.approx(last[f"eval/{name}"], rel=1e-6)
        assert score[f"ema_{name}"] == pytest.approx(last[f"eval_ema/{name}"], rel=1e-6)


def test_other_configuration_in_the_same_folder_is_refused(make_config, tmp_path):
    train_and_evaluate(make_run(make_config()), tmp_path)
    before = sorted((tmp_path / "checkpoints").iterdir())
    with pytest.raises(ValueError, match=r"another --workdir.*\n  config.seed: 0 before, 5 now"):
        train_and_evaluate(make_run(make_config(seed=5)), tmp_path)
    assert sorted((tmp_path / "checkpoints").iterdir()) == before


def test_folder_of_another_run_is_left_alone(make_config, tmp_path):
    lock = Lock(epath.Path(tmp_path / "lock.json"), tmp_path, "")
    assert lock.attempt()
    with pytest.raises(LockError, match=f"{tmp_path} is in use by process .* another --workdir"):
        train_and_evaluate(make_run(make_config()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock.json"]
    lock.release()


def test_loss_that_is_not_finite_stops_the_run_unsaved(make_config, tmp_path, monkeypatch):
    run = make_run(make_config())
    step = run.programs.train_step

    class Poisoned:
        """Compiles like the real step and poisons the parameters at step 5."""

        def lower(self, *arguments):
            return self

        def compile(self):
            return self

        def __call__(self, state, batch, key):
            if int(state.step) == 4:
                state = state.replace(params=jax.tree.map(lambda leaf: leaf * np.nan, state.params))
            return step(state, batch, key)

    object.__setattr__(run.programs, "train_step", Poisoned())
    with pytest.raises(FloatingPointError, match=r"nan at step 5.*learning_rate"):
        train_and_evaluate(run, tmp_path)
    assert restored(run, tmp_path)[0] == 3


def test_batches_that_devices_cannot_share_are_refused(make_config):
    with pytest.raises(ValueError, match=r"config.batch_size=12 .* by 8 devices"):
        make_run(make_config(batch_size=12))
