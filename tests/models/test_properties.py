"""What holds for every network, whatever its widths, depths and image sizes."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shunted_jax.models import ShuntedTransformer
from tests.models.strategies import model_fields
from tests.support.quick import quick_jit


@settings(max_examples=3)
@given(fields=model_fields(), data=st.data())
def test_gradients_are_finite_and_forms_agree(fields, data):
    model = ShuntedTransformer(**fields)
    sides = st.integers(model.min_image_size, model.min_image_size + 9)
    shape = (2, data.draw(sides, "height"), data.draw(sides, "width"), fields["in_channels"])
    images = jax.random.normal(jax.random.key(1), shape)
    variables = quick_jit(model.init)(jax.random.key(0), images)

    def loss_and_gradients(compute):
        network = model.clone(compute=compute)

        def loss(params):
            logits, _ = network.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(logits**2)

        return quick_jit(jax.value_and_grad(loss))(variables["params"])

    auto, reference = loss_and_gradients("auto"), loss_and_gradients("reference")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(auto))
    np.testing.assert_allclose(auto[0], reference[0], rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(reference[1]))
    for ours, theirs in zip(jax.tree.leaves(auto[1]), jax.tree.leaves(reference[1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * largest)


@settings(max_examples=4)
@given(depths=st.lists(st.integers(1, 2), min_size=2, max_size=3), seed=st.integers(0, 2**31 - 1))
def test_blocks_drop_different_samples(depths, seed):
    stages = len(depths)
    model = ShuntedTransformer(
        depths=tuple(depths),
        embed_dims=(4,) * stages,
        num_heads=(2,) * stages,
        mlp_ratios=(1,) * stages,
        sr_ratios=(1,) * stages,
        num_classes=0,
        drop_path_rate=0.5,
    )
    images = jnp.ones((64, 16, 16, 3))
    variables = quick_jit(model.init)(jax.random.key(0), images)
    # A dropped branch is all zeros; biases make every other one not so.
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)

    @quick_jit
    def branches_of(variables, key):
        _, state = model.apply(
            variables,
            images,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: type(module).__name__ == "DropPath",
        )
        return jax.tree.leaves(state["intermediates"])

    branches = branches_of(variables, jax.random.key(seed))
    assert len(branches) == 2 * sum(depths)
    dropped = [tuple(np.all(np.asarray(b) == 0, axis=(1, 2, 3))) for b in branches]
    # The first block's rate is 0; 64 samples coincide in two others by chance once in 2^27.
    assert not any(any(pattern) for pattern in dropped[:2])
    assert len(set(dropped[2:])) == len(dropped) - 2
