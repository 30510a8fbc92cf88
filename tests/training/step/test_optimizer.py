"""Schedule and optimizer against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shunted_jax.config import OptimizerConfig
from shunted_jax.models import create_model
from shunted_jax.training.step.layer_decay import layer_numbers, rate_factors
from shunted_jax.training.step.optimizer import (
    learning_rate_schedule,
    make_optimizer,
    weight_decay_mask,
)
from tests.support.quick import quick_jit


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


@pytest.fixture(scope="module")
def shapes():
    """Returns the parameters' shapes of Shunted-T: 1, 2, 4 and 1 blocks."""
    model = create_model("shunted_t")
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]


def test_layers_are_numbered_from_the_stem_to_the_head(shapes):
    numbers = layer_numbers(shapes)

    def of(tree):
        found = set(jax.tree.leaves(tree))
        assert len(found) == 1
        return found.pop()

    assert of(numbers["stem"]) == 0
    assert of(numbers["head"]) == 9
    first, second, third, last = (numbers[f"stages_{index}"] for index in range(4))
    assert [of(first["blocks_0"]), of(first["norm"])] == [1, 1]
    in_second = [of(second[name]) for name in ("patch_embed", "blocks_0", "blocks_1", "norm")]
    assert in_second == [2, 2, 3, 3]
    assert [of(third[f"blocks_{index}"]) for index in range(4)] == [4, 5, 6, 7]
    assert [of(last["patch_embed"]), of(last["norm"])] == [8, 8]
    factors = rate_factors(shapes, 0.5)
    assert of(factors["head"]) == 1
    assert of(factors["stages_2"]["blocks_3"]) == 0.5**2
    assert of(factors["stem"]) == 0.5**9


def some_of(shapes):
    """Returns parameters of the lowest layers and the highest: an update of all takes long."""
    some = {name: shapes[name] for name in ("stem", "stages_0", "head")}
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), some)


def test_layer_decay_scales_whole_updates(shapes):
    params = some_of(shapes)
    grads = jax.tree.map(jnp.ones_like, params)

    @quick_jit
    def updates(params, grads):
        both = [OptimizerConfig(), OptimizerConfig(layer_decay=0.8)]
        optimizers = [make_optimizer(config, 1e-2) for config in both]
        return [tx.update(grads, tx.init(params), params)[0] for tx in optimizers]

    plain, scaled = updates(params, grads)
    jax.tree.map(
        lambda update, factor, found: np.testing.assert_allclose(found, factor * update, rtol=1e-6),
        plain,
        rate_factors(params, 0.8),
        scaled,
    )


def test_frozen_backbone_has_no_moments_and_does_not_move(shapes):
    params = some_of(shapes)
    grads = jax.tree.map(jnp.ones_like, params)
    tx = make_optimizer(OptimizerConfig(freeze_backbone=True, clip_norm=1.0), 1e-2)
    state = tx.init(params)
    moments = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert sorted(moments) == [(512, 1000), (512, 1000), (1000,), (1000,)]
    updates, _ = tx.update(grads, state, params)
    alone = make_optimizer(OptimizerConfig(clip_norm=1.0), 1e-2)
    head = {"head": params["head"]}
    # Gradients of what is frozen do not count when clipping.
    expected, _ = alone.update({"head": grads["head"]}, alone.init(head), head)
    jax.tree.map(np.testing.assert_array_equal, updates["head"], expected["head"])
    backbone = {name: tree for name, tree in updates.items() if name != "head"}
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(backbone))
