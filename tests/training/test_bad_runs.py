"""Whole runs some of whose steps are not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.tasks import classification
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run
from tests.support.small_run import learned
from tests.training.test_loop import restored

pytestmark = pytest.mark.proof


@pytest.fixture
def spoil(monkeypatch):
    """Returns a function that takes steps whose images are not numbers from now on."""
    train_batches, augment = classification.train_batches, classification.augment

    def augment_white_to_nan(key, images, *arguments):
        augmented = augment(key, images, *arguments)
        white = jnp.all(images == 255)
        return dataclasses.replace(augmented, images=jnp.where(white, jnp.nan, augmented.images))

    def choose(*bad):
        def batches(*arguments, start_step, **settings):
            stream = train_batches(*arguments, start_step=start_step, **settings)
            for step, batch in enumerate(stream, start=start_step + 1):
                if step in bad:
                    batch = batch | {"image": np.full_like(batch["image"], 255)}
                yield batch

        monkeypatch.setattr(classification, "train_batches", batches)

    monkeypatch.setattr(classification, "augment", augment_white_to_nan)
    return choose


def stop_after(monkeypatch, step):
    save = RunCheckpoints.save

    def save_then_break_off(self, state, meta):
        save(self, state, meta)
        if meta.run.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunCheckpoints, "save", save_then_break_off)


def counts(opt_state, kind):
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    return [int(node.count) for node in nodes if isinstance(node, kind)]


def test_skipped_steps_are_counted_over_an_interruption(make_config, spoil, tmp_path, monkeypatch):
    spoil(2, 5)
    run = make_run(make_config(max_bad_steps=2))
    train_and_evaluate(run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(run, tmp_path / "parts")
    train_and_evaluate(run, tmp_path / "parts")

    whole, parts = restored(run, tmp_path / "whole"), restored(run, tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    logs = [learned(read_metrics(tmp_path / name / "metrics.jsonl")) for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    records = {record["step"]: record for record in logs[0] if "train/loss" in record}
    skipped = {step: record["train/bad_steps"] for step, record in records.items()}
    assert skipped == {2: 1, 3: 1, 4: 1, 6: 2, 8: 2, 9: 2}
    assert np.isfinite([list(record.values()) for record in records.values()]).all()

    # The rate is that of the step, as is said; Adam has seen the gradients of seven steps.
    _, state = whole
    assert counts(state.opt_state, optax.ScaleByScheduleState) == [9]
    assert counts(state.opt_state, optax.ScaleByAdamState) == [7]
    for step, record in records.items():
        assert record["train/learning_rate"] == float(run.schedule(step - 1))


def test_one_more_than_may_be_skipped_ends_the_run_unsaved(make_config, spoil, tmp_path):
    spoil(2, 5, 7)
    run = make_run(make_config(max_bad_steps=2))
    with pytest.raises(FloatingPointError, match=r"step 7 are not finite.*max_bad_steps=2"):
        train_and_evaluate(run, tmp_path)
    step, state = restored(run, tmp_path)
    assert step == 6
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))

    # The remedy that it names, and a run in which there was no bad seventh step.
    more = make_run(make_config(max_bad_steps=3))
    train_and_evaluate(more, tmp_path)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["train/bad_steps"] for r in records if "train/loss" in r] == [1, 1, 1, 2, 3, 3]
    _, state = restored(more, tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
