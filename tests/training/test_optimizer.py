"""Schedule and optimizer against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shunted_jax.config import OptimizerConfig
from shunted_jax.models import create_model
from shunted_jax.training.optimizer import (
    learning_rate_schedule,
    make_optimizer,
    weight_decay_mask,
)


def test_schedule_warms_up_in_a_line_and_falls_in_a_cosine():
    config = OptimizerConfig(
        learning_rate=1e-3, warmup_learning_rate=1e-6, min_learning_rate=1e-5, warmup_epochs=5
    )
    schedule = learning_rate_schedule(config, total_steps=3000, steps_per_epoch=10)
    for step in (0, 1, 25, 49, 50, 51, 1000, 2999, 3000, 4000):
        if step < 50:
            expected = 1e-6 + (1e-3 - 1e-6) * step / 50
        else:
            share = min(1.0, (step - 50) / (3000 - 50))
            expected = 1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * share)) / 2
        np.testing.assert_allclose(schedule(step), expected, rtol=1e-5)


def test_no_warm_up_starts_at_the_peak():
    config = OptimizerConfig(learning_rate=1e-3, warmup_epochs=0)
    schedule = learning_rate_schedule(config, total_steps=100, steps_per_epoch=10)
    np.testing.assert_allclose(schedule(0), 1e-3, rtol=1e-6)


def test_kernels_decay_and_nothing_else():
    model = create_model("shunted_t")
    images = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    mask = jax.tree_util.tree_leaves_with_path(weight_decay_mask(params))
    assert all(decays == (path[-1].key == "kernel") for path, decays in mask)
    assert 0 < sum(decays for _, decays in mask) < len(mask)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_adamw_from_its_formula(clip_norm):
    rng = np.random.default_rng(0)
    params = {"kernel": rng.standard_normal((3, 4)), "bias": rng.standard_normal(4)}
    config = OptimizerConfig(weight_decay=0.05, clip_norm=clip_norm)
    tx = make_optimizer(config, 1e-2)
    ours = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    state = tx.init(ours)
    moments = {name: [0.0, 0.0] for name in params}
    for step in range(1, 6):
        grads = {name: rng.standard_normal(value.shape) for name, value in params.items()}
        updates, state = tx.update(
            {name: jnp.asarray(grad, jnp.float32) for name, grad in grads.items()}, state, ours
        )
        ours = optax.apply_updates(ours, updates)
        norm = np.sqrt(sum(np.sum(grad**2) for grad in grads.values()))
        scale = min(1.0, clip_norm / norm) if clip_norm else 1.0
        for name, grad in grads.items():
            first, second = moments[name]
            first = 0.9 * first + 0.1 * scale * grad
            second = 0.999 * second + 0.001 * (scale * grad) ** 2
            moments[name] = [first, second]
            direction = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            decay = 0.05 if name == "kernel" else 0.0
            params[name] = params[name] - 1e-2 * (direction + decay * params[name])
    for name, expected in params.items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5)
