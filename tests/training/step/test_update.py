"""The update of a step: parts of a batch, a moving average, a frozen backbone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shunted_jax.config import Config, DataConfig, MeshConfig, OptimizerConfig
from shunted_jax.models import ShuntedTransformer
from shunted_jax.tasks.classification import Classification
from shunted_jax.training.devices.sharding import batch_sharding, make_mesh, replicated
from shunted_jax.training.step.optimizer import make_optimizer
from shunted_jax.training.step.state import state_of
from shunted_jax.training.step.steps import make_update
from tests.support.quick import quick_jit
from tests.support.tiny import ONE_STAGE

MODEL = ShuntedTransformer(**ONE_STAGE | {"sr_ratios": (1,), "num_classes": 5})
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((16, 8, 8, 3)).astype(np.float32)
TARGETS = RNG.dirichlet(np.ones(5), 16).astype(np.float32)
KEY = jax.random.key(1)
RATE = 1e-2


def setting(**changes):
    """Returns the task of such a configuration, its optimizer and a first state."""
    config = Config(data=DataConfig(image_size=8), batch_size=16, **changes)
    tx = make_optimizer(config.optimizer, RATE)
    variables = quick_jit(MODEL.init)(jax.random.key(0), IMAGES[:1])
    state = state_of(variables, tx, with_ema=config.ema_decay is not None)
    return Classification(config, MODEL.num_classes), tx, state


def loss_of(params, batch_stats, images, targets, *, train=True):
    logits, updates = MODEL.apply(
        {"params": params, "batch_stats": batch_stats}, images, train=train, mutable=["batch_stats"]
    )
    return jnp.mean(optax.softmax_cross_entropy(logits, targets)), updates["batch_stats"]


def close(found, expected, **tolerance):
    tolerance = {"rtol": 1e-4, "atol": 1e-6} | tolerance
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


def test_parts_of_a_batch_give_the_mean_of_their_gradients():
    task, tx, state = setting(accumulate_steps=2)
    grad_fn = quick_jit(jax.value_and_grad(loss_of, has_aux=True))
    batch_stats, losses, grads = state.batch_stats, [], []
    for part in range(2):  # every other row, so that each device has rows of each part
        rows = slice(part, None, 2)
        (loss, batch_stats), grad = grad_fn(state.params, batch_stats, IMAGES[rows], TARGETS[rows])
        losses.append(loss)
        grads.append(grad)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 2, *grads)
    updates, _ = tx.update(mean, state.opt_state, state.params)
    expected = optax.apply_updates(state.params, updates)

    new, metrics = quick_jit(make_update(MODEL, tx, task))(state, IMAGES, TARGETS, KEY)
    close(new.batch_stats, batch_stats)
    # AdamW's first step is the gradient's sign: where that is rounding, so is the step.
    sizes = jax.tree.map(lambda leaf: np.abs(leaf) > 1e-6, mean)
    jax.tree.map(
        lambda a, b, big: np.testing.assert_allclose(a[big], b[big], rtol=1e-4, atol=1e-5),
        jax.device_get(new.params),
        jax.device_get(expected),
        sizes,
    )
    assert metrics["loss"].value == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert metrics["loss"].count == metrics["top1"].count == 16
    assert metrics["grad_norm"].value == pytest.approx(float(optax.tree.norm(mean)), rel=1e-4)


def test_parts_on_eight_devices_are_those_on_one_and_no_rows_travel():
    task, tx, state = setting(accumulate_steps=2)
    update = make_update(MODEL, tx, task)
    one = quick_jit(update)(state, IMAGES, TARGETS, KEY)
    mesh = make_mesh(MeshConfig())
    rows, everywhere = batch_sharding(mesh), replicated(mesh)
    spread = quick_jit(update, in_shardings=(everywhere, rows, rows, everywhere))
    compiled = spread.lower(state, IMAGES, TARGETS, KEY).compile()
    eight = compiled(
        jax.device_put(state, everywhere),
        jax.device_put(IMAGES, rows),
        jax.device_put(TARGETS, rows),
        jax.device_put(KEY, everywhere),
    )
    close(eight[1], one[1])
    close(eight[0].batch_stats, one[0].batch_stats)
    for moving in ("all-gather", "all-to-all", "collective-permute"):
        assert moving not in compiled.as_text()


def test_moving_average_follows_its_formula_from_the_first_parameters():
    task, tx, state = setting(ema_decay=0.9)
    update = quick_jit(make_update(MODEL, tx, task), donate_argnums=0)
    expected = jax.device_get(state.params)
    for _ in range(3):
        state, _ = update(state, IMAGES, TARGETS, KEY)
        expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, expected, state.params)
    close(state.ema_params, expected, atol=1e-7)
    assert np.abs(state.ema_params["head"]["kernel"] - state.params["head"]["kernel"]).max() > 1e-3


def test_frozen_backbone_stays_bit_for_bit_and_parts_change_nothing():
    results = []
    for parts in (1, 4):
        task, tx, state = setting(
            accumulate_steps=parts, optimizer=OptimizerConfig(freeze_backbone=True)
        )
        update = quick_jit(make_update(MODEL, tx, task))
        new, metrics = update(state, IMAGES, TARGETS, KEY)
        for before, after in ((state.batch_stats, new.batch_stats), (state.params, new.params)):
            kept = {name: tree for name, tree in before.items() if name != "head"}
            assert kept
            jax.tree.map(np.testing.assert_array_equal, kept, {name: after[name] for name in kept})
        assert np.any(new.params["head"]["kernel"] != state.params["head"]["kernel"])
        results.append(metrics)
    # The loss that evaluation has: statistics are the running ones, part by part the same.
    loss, _ = loss_of(state.params, state.batch_stats, IMAGES, TARGETS, train=False)
    assert results[0]["loss"].value == pytest.approx(float(loss), rel=1e-5)
    close(results[0], results[1])
