"""Blocks as a loop: the same numbers and draws, from a program of one block a stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.cost import all_equations, count_macs
from tests.support.quick import quick_jit
from tests.support.tiny import TWO_STAGES

MODEL = ShuntedTransformer(
    **TWO_STAGES | {"depths": (2, 2)},
    num_classes=5,
    drop_rate=0.2,
    attn_drop_rate=0.3,
    drop_path_rate=0.4,
)
IMAGES = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    """Returns the network's variables."""
    return quick_jit(MODEL.init)(jax.random.key(0), IMAGES)


def in_training(model, variables):
    """Returns the logits, the gradients and the updated statistics of a step."""

    def loss_fn(params):
        logits, updates = model.apply(
            {**variables, "params": params},
            IMAGES,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return jnp.sum(logits**2), (logits, updates)

    gradients, (logits, updates) = quick_jit(jax.grad(loss_fn, has_aux=True))(variables["params"])
    return logits, gradients, updates


@pytest.fixture(scope="module")
def expected(variables):
    """Returns what the network computes in training without the loop."""
    return in_training(MODEL, variables)


@pytest.mark.parametrize("remat", [False, True])
def test_logits_gradients_and_statistics_are_the_same_with_every_draw(remat, variables, expected):
    scanned = in_training(MODEL.clone(scan_blocks=True, remat=remat), variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), scanned, expected)


def test_bfloat16_draws_the_same(variables):
    def logits(model):
        rngs = {"dropout": jax.random.key(1)}
        apply = quick_jit(
            lambda v: model.apply(v, IMAGES, train=True, mutable=["batch_stats"], rngs=rngs)[0]
        )
        return apply(variables)

    model = MODEL.clone(dtype=jnp.bfloat16)
    plain, scanned = logits(model), logits(model.clone(scan_blocks=True))
    np.testing.assert_allclose(scanned, plain, rtol=0.05, atol=0.02 * np.abs(plain).max())


def test_evaluation_and_feature_maps_are_the_same(variables):
    for method in ("__call__", "features"):
        outputs = [
            quick_jit(lambda v, m=model, method=method: m.apply(v, IMAGES, method=method))(
                variables
            )
            for model in (MODEL, MODEL.clone(scan_blocks=True))
        ]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5), *outputs)


def test_parameters_and_cost_do_not_know_of_it():
    scanned = MODEL.clone(scan_blocks=True)
    shapes = [jax.eval_shape(m.init, jax.random.key(0), IMAGES) for m in (MODEL, scanned)]
    assert shapes[0] == shapes[1]
    assert count_macs(scanned, 16) == count_macs(MODEL, 16)


def test_a_missing_stream_is_missed(variables):
    with pytest.raises(InvalidRngError, match="dropout"):
        jax.eval_shape(
            lambda v: MODEL.clone(scan_blocks=True, drop_rate=0.0, attn_drop_rate=0.0).apply(
                v, IMAGES, train=True, mutable=["batch_stats"]
            ),
            variables,
        )


def test_the_program_does_not_grow_with_the_blocks():
    def products(depth, *, scan):
        model = MODEL.clone(depths=(depth, 1), scan_blocks=scan, compute="reference")
        shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
        gradients = jax.grad(lambda p, v: model.apply({**v, "params": p}, IMAGES).sum())
        jaxpr = jax.make_jaxpr(gradients)(shapes["params"], shapes).jaxpr
        return sum(e.primitive.name == "dot_general" for _, e in all_equations(jaxpr))

    assert products(6, scan=True) == products(2, scan=True)
    assert products(6, scan=False) > 2 * products(2, scan=False)
