"""Steps that are not finite: left out and counted, or the end of the run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shunted_jax.config import OptimizerConfig
from shunted_jax.tasks.metrics import Mean
from shunted_jax.training.step.bad_steps import skip_bad_steps
from shunted_jax.training.step.optimizer import make_optimizer
from shunted_jax.training.step.state import TrainState
from shunted_jax.training.tally import Tally


def descend(state, batch, key):
    del key
    gradient = batch * jnp.ones(3)
    new = TrainState(
        step=state.step + 1,
        params=state.params - gradient,
        batch_stats=state.batch_stats + batch,
        opt_state={"count": state.opt_state["count"] + 1},
    )
    norm = jnp.sum(jnp.abs(gradient))
    return new, {"loss": Mean(batch * 4, jnp.float32(4)), "grad_norm": Mean(norm, jnp.float32(1))}


def start():
    return TrainState(jnp.int32(0), jnp.zeros(3), jnp.zeros(()), {"count": jnp.int32(0)})


def test_bad_steps_change_nothing_but_the_step():
    step = jax.jit(skip_bad_steps(descend, 2), donate_argnums=0)
    state, tally = start(), Tally(2)
    for number, value in enumerate([1, jnp.nan, 2, jnp.inf], start=1):
        state, metrics = step(state, jnp.float32(value), None)
        tally.add(number, metrics)
    assert int(state.step) == 4
    assert int(state.opt_state["count"]) == 2
    np.testing.assert_array_equal(state.params, -3 * np.ones(3))
    assert float(state.batch_stats) == 3
    assert tally.means() == {"train/loss": 1.5, "train/grad_norm": 4.5, "train/bad_steps": 2}

    # Only bad ones: no means, and one more than may be skipped ends the run.
    saved = tally.to_json()
    assert saved == {"totals": {}, "bad_steps": 2}
    later = Tally(2, saved)
    later.add(5, step(state, jnp.float32(jnp.nan), None)[1])
    with pytest.raises(FloatingPointError, match=r"step 5 are not finite.*max_bad_steps=2"):
        later.means()


@pytest.mark.parametrize("freeze_backbone", [False, True])
def test_rate_is_that_of_the_step_though_some_were_skipped(freeze_backbone):
    rates = np.float32([0.5, 0.25, 0.125])
    config = OptimizerConfig(weight_decay=0.0, freeze_backbone=freeze_backbone)
    tx = make_optimizer(config, jnp.asarray(rates).__getitem__)

    def train_step(state, batch, key):
        del key
        updates, opt_state = tx.update({"head": batch * jnp.ones(2)}, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        return new, {name: Mean(batch, jnp.float32(1)) for name in ("loss", "grad_norm")}

    params = {"head": jnp.zeros(2)}
    state = TrainState(jnp.int32(0), params, {}, tx.init(params))
    step = jax.jit(skip_bad_steps(train_step, 1))
    moved = []
    for value in (1, jnp.nan, 1):
        before = state.params["head"][0]
        state, _ = step(state, jnp.float32(value), None)
        moved.append(float(before - state.params["head"][0]))
    # Adam moves by the rate itself as long as the gradient is always the same.
    np.testing.assert_allclose(moved, rates * [1, 0, 1], rtol=1e-4)


def test_without_leave_nothing_is_compiled_in_and_the_first_one_ends_the_run():
    assert skip_bad_steps(descend, 0) is descend
    tally = Tally(0)
    state = start()
    for number, value in enumerate([1, jnp.nan, 2], start=7):
        state, metrics = descend(state, jnp.float32(value), None)
        tally.add(number, metrics)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 8: .*max_bad_steps"):
        tally.to_json()


def test_sums_go_on_exactly_after_a_restart():
    values = np.random.default_rng(0).normal(size=9).astype(np.float32) ** 2

    def metrics(value):
        return descend(start(), jnp.float32(value), None)[1]

    whole, parts = Tally(0), Tally(0)
    for step, value in enumerate(values):
        whole.add(step, metrics(value))
        parts.add(step, metrics(value))
        if step % 2:
            parts = Tally(0, parts.to_json())
    assert whole.means() == parts.means()
