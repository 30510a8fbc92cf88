"""The norm of all gradients and clipping by it, against Optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shunted_jax.training.step.gradient_norm import clip_by_global_norm, global_norm


@pytest.fixture
def tree():
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 3, 8, 16), "matrix": (64, 48), "bias": (16,), "scale": (40,), "one": ()}
    arrays = {
        name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in shapes.items()
    }
    return {"a": arrays, "b": [arrays["bias"] * 1e3, optax.MaskedNode()]}


def test_norm_is_that_of_all_numbers(tree):
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    np.testing.assert_allclose(global_norm(tree), np.linalg.norm(np.concatenate(leaves)), rtol=1e-6)


@pytest.mark.parametrize("kept", [["kernel"], ["bias"], ["one"], []])
def test_norm_of_one_tensor_and_of_none(tree, kept):
    part = {name: tree["a"][name] for name in kept}
    np.testing.assert_allclose(global_norm(part), optax.tree.norm(part), rtol=1e-6)


def test_not_finite_wherever_a_number_is_not(tree):
    for name in tree["a"]:
        for number in (jnp.nan, jnp.inf):
            bad = {**tree["a"], name: tree["a"][name].at[...].set(number)}
            assert not jnp.isfinite(global_norm(bad))


@pytest.mark.parametrize("share", [0.1, 1.5])
def test_clips_as_optax_does(tree, share):
    limit = share * float(optax.tree.norm(tree))
    ours, theirs = clip_by_global_norm(limit), optax.clip_by_global_norm(limit)
    state = ours.init(tree)
    assert jax.tree.structure(state) == jax.tree.structure(theirs.init(tree))
    clipped, _ = ours.update(tree, state)
    expected, _ = theirs.update(tree, theirs.init(tree))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), clipped, expected)
    np.testing.assert_allclose(
        float(optax.tree.norm(clipped)), min(1, share) * limit / share, rtol=1e-5
    )
