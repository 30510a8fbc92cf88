"""A run's checkpoints on real files: what is kept, what comes back, what a full disk does."""

import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from shunted_jax.checkpoints import BEST_METRIC, Metadata, RunCheckpoints, RunRecord
from shunted_jax.checkpoints.folders import best_step, checkpoint_folder, read_meta
from shunted_jax.checkpoints.preservation import steps_to_keep
from shunted_jax.errors import RunError
from tests.support.full_disk import largest_file


@struct.dataclass
class State:
    """What a training loop might keep."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


def make_state(step=0, size=64):
    numbers = jnp.arange(size, dtype=jnp.float32) + step
    return State(
        step=jnp.int32(step),
        params={"dense": {"kernel": numbers}},
        batch_stats={"norm": {"mean": -numbers}},
        opt_state=({"mu": numbers / 2}, {"count": jnp.int32(step)}),
    )


def make_meta(step, metrics=None):
    return Metadata({}, run=RunRecord(config={}, step=step, metrics=metrics or {}))


def abstract(state):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


@pytest.mark.parametrize(
    ("steps", "best", "keep", "every", "kept"),
    [
        ([1, 2, 3], None, 2, None, {2, 3}),
        ([1, 2, 3, 4], 2, 1, None, {2, 4}),
        ([5, 10, 15, 20, 25], None, 1, 10, {10, 20, 25}),
        ([4, 11, 14, 21, 24], None, 1, 10.0, {11, 21, 24}),  # the first at or after
        ([5], None, 3, 2.5, {5}),
    ],
)
def test_newest_best_and_every_so_many_are_kept(steps, best, keep, every, kept):
    assert steps_to_keep(steps, best, keep, every) == kept


AVERAGE = "eval_ema/top1"


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({}, (None, BEST_METRIC)),
        ({1: ({}, BEST_METRIC)}, (None, BEST_METRIC)),
        ({s: ({BEST_METRIC: v}, BEST_METRIC) for s, v in ((1, 0.1), (2, 0.9))}, (2, BEST_METRIC)),
        ({s: ({BEST_METRIC: 0.5}, BEST_METRIC) for s in (1, 2)}, (2, BEST_METRIC)),  # the later
        (  # The newest one's choice is that of all; what was not evaluated chooses nothing.
            {
                1: ({BEST_METRIC: 0.9, AVERAGE: 0.1}, BEST_METRIC),
                2: ({BEST_METRIC: 0.1, AVERAGE: 0.9}, AVERAGE),
                3: ({}, BEST_METRIC),
            },
            (2, AVERAGE),
        ),
    ],
)
def test_best_is_by_what_the_newest_evaluation_names(scores, best):
    assert best_step(scores) == best


def test_keeps_them_across_starts_and_saves_between_evaluations(tmp_path):
    top1 = {2: 0.1, 4: 0.9, 6: 0.3, 8: 0.2}
    for steps in (range(1, 6), range(6, 10)):
        with RunCheckpoints(tmp_path, keep=2, keep_every_steps=3) as checkpoints:
            for step in steps:
                metrics = {BEST_METRIC: top1[step]} if step in top1 else {}
                checkpoints.save(make_state(step), make_meta(step, metrics))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["3", "4", "6", "8", "9"]
    assert checkpoint_folder(tmp_path, "best") == (tmp_path / "4", BEST_METRIC)
    assert checkpoint_folder(tmp_path, "latest") == (tmp_path / "9", None)
    assert read_meta(checkpoint_folder(tmp_path, 4)[0]) == make_meta(4, {BEST_METRIC: 0.9})


@pytest.mark.accelerator
def test_averaged_parameters_and_later_fields_come_back(tmp_path):
    @struct.dataclass
    class LargerState(State):
        ema_params: Any = None
        scale: Any = None

    small = make_state(3)
    fields = {name: getattr(small, name) for name in ("params", "batch_stats", "opt_state")}
    for number, extra in enumerate(
        ({}, {"ema_params": {"dense": {"kernel": jnp.ones(4)}}, "scale": jnp.float32(0.5)}), 1
    ):
        state = LargerState(step=jnp.int32(number), **fields, **extra)
        with RunCheckpoints(tmp_path, keep=3) as checkpoints:
            checkpoints.save(state, make_meta(number))
            restored = checkpoints.restore(number, abstract(state))
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        assert (tmp_path / str(number) / "ema_params").is_dir() == ("ema_params" in extra)


def test_leftovers_of_an_interrupted_save_are_cleared_away(tmp_path):
    with RunCheckpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(make_state(1), make_meta(1))
    (tmp_path / "2.orbax-checkpoint-tmp" / "params").mkdir(parents=True)
    with RunCheckpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps == [1]
        checkpoints.save(make_state(2), make_meta(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.parametrize("noticed", ["next save", "wait", "end"])
def test_failed_save_stops_with_the_reason_and_spares_the_one_before(tmp_path, noticed):
    random = jax.random.normal(jax.random.key(0), (2**17,))  # what compression cannot shrink
    large = make_state(2).replace(params={"dense": {"kernel": random}})
    message = r"File too large; step 1 is the last one saved. Make room .* same --workdir"
    with pytest.raises(RunError, match=message):  # noqa: PT012, SIM117
        with RunCheckpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(make_state(1), make_meta(1))
            checkpoints.wait()
            with largest_file(2**16):
                checkpoints.save(large, make_meta(2))
                if noticed == "next save":
                    checkpoints.save(make_state(3), make_meta(3))
                elif noticed == "wait":
                    checkpoints.wait()
                else:
                    while not checkpoints._manager._finalize_thread.get_not_none().exception:
                        pass
    # In this process, what was being written when the save failed is still coming to its end.
    before = None
    while before != (before := sorted(tmp_path.rglob("*"))):
        time.sleep(0.2)
    with RunCheckpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.steps == [1]
        assert checkpoints.restore_meta(1) == make_meta(1)
        state = make_state(1)
        restored = checkpoints.restore(1, abstract(state))
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        checkpoints.save(large, make_meta(2))
    written = json.loads((tmp_path / "2" / "meta" / "metadata").read_text())
    assert written["run"]["metrics"] == {}
