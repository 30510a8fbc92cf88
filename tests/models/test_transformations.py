"""What JAX makes of the network: derivatives forwards and backwards, of both orders, in batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.models import ShuntedTransformer
from tests.support.quick import quick_jit

MODEL = ShuntedTransformer(
    depths=(1, 1),
    embed_dims=(4, 8),
    num_heads=(2, 2),
    mlp_ratios=(1, 1),
    sr_ratios=(2, 1),
    num_classes=3,
)
IMAGES = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
STEP = 2e-3


@pytest.fixture(scope="module", params=["auto", "reference"])
def network(request):
    """Returns params -> logits, parameters none of which is zero, and a direction among them."""
    model = MODEL.clone(compute=request.param)
    variables = quick_jit(model.init)(jax.random.key(0), IMAGES)
    rng = np.random.default_rng(0)
    noise, along = (
        jax.tree.map(
            lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype),
            variables["params"],
        )
        for _ in range(2)
    )
    params = jax.tree.map(lambda leaf, dx: leaf + 0.3 * dx, variables["params"], noise)
    return lambda p: model.apply({**variables, "params": p}, IMAGES), params, along


def loss_of(apply):
    return lambda params: jnp.sum(jnp.sin(apply(params)))


def assert_close(ours, theirs, tolerance=1e-4):
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(theirs))
    assert largest > 1e-2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest),
        ours,
        theirs,
    )


def test_derivatives_are_finite_differences(network):
    apply, params, along = network
    loss = loss_of(apply)

    @quick_jit
    def results(params, along):
        def at(distance):
            return jax.tree.map(lambda p, d: p + distance * d, params, along)

        gradient, curvature = jax.jvp(jax.grad(loss), (params,), (along,))
        differences = jax.tree.map(
            lambda a, b: (a - b) / (2 * STEP), jax.grad(loss)(at(STEP)), jax.grad(loss)(at(-STEP))
        )
        return {
            "forward": jax.jvp(apply, (params,), (along,))[1],
            "linearize": jax.linearize(apply, params)[1](along),
            "difference": (apply(at(STEP)) - apply(at(-STEP))) / (2 * STEP),
            "backward": sum(
                jnp.vdot(dx, d)
                for dx, d in zip(*map(jax.tree.leaves, (gradient, along)), strict=True)
            ),
            "forward, of the loss": jax.jvp(loss, (params,), (along,))[1],
            "curvature": curvature,
            "curvature, backwards": jax.vjp(jax.grad(loss), params)[1](along)[0],
            "curvature, difference": differences,
            "gradient": gradient,
            "gradient, checkpointed": jax.grad(jax.checkpoint(loss))(params),
        }

    found = results(params, jax.tree.map(lambda leaf: 0.1 * leaf, along))
    assert_close(found["forward"], found["difference"], 2e-3)
    assert_close(found["linearize"], found["forward"])
    assert_close(found["backward"], found["forward, of the loss"])
    assert_close(found["curvature"], found["curvature, difference"], 5e-3)
    assert_close(found["curvature, backwards"], found["curvature"])
    assert_close(found["gradient, checkpointed"], found["gradient"])


def test_whole_matrices_of_derivatives_and_batches_of_parameters(network):
    apply, params, along = network
    loss = loss_of(apply)

    @quick_jit
    def results(params, along):
        def of_norm(norm):
            stage = {**params["stages_1"], "norm": norm}
            return apply({**params, "stages_1": stage})

        norm = params["stages_1"]["norm"]
        several = jax.tree.map(lambda p, d: jnp.stack([p, p + 0.1 * d]), params, along)
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], several) for i in range(2)]
        return {
            "jacfwd": jax.jacfwd(of_norm)(norm),
            "jacrev": jax.jacrev(of_norm)(norm),
            "hessian": jax.hessian(lambda n: jnp.sum(jnp.sin(of_norm(n))))(norm),
            "hessian, backwards": jax.jacrev(jax.grad(lambda n: jnp.sum(jnp.sin(of_norm(n)))))(
                norm
            ),
            "vmap": jax.vmap(jax.value_and_grad(loss))(several),
            "one by one": jax.tree.map(
                lambda *leaves: jnp.stack(leaves), *map(jax.value_and_grad(loss), each)
            ),
        }

    found = results(params, along)
    assert_close(found["jacfwd"], found["jacrev"])
    assert_close(found["hessian"], found["hessian, backwards"])
    assert_close(found["vmap"], found["one by one"])


def test_the_reference_has_no_derivative_of_our_own():
    variables = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
    for compute, steps in (("auto", True), ("reference", False)):
        model = MODEL.clone(compute=compute)
        program = str(jax.make_jaxpr(model.apply)(variables, IMAGES))
        assert ("operation[" in program) == steps
        assert "custom_vjp" not in program
