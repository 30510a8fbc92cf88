"""What JAX makes of the network: derivatives forwards and backwards, of both orders, in batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.models import ShuntedTransformer
from tests.support.quick import quick_jit
from tests.support.tiny import TWO_STAGES

MODEL = ShuntedTransformer(
    **TWO_STAGES | {"embed_dims": (4, 8), "mlp_ratios": (1, 1)},
    num_classes=3,
)
IMAGES = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
STEP = 2e-3


@pytest.fixture(scope="module")
def variables():
    """Returns the network's variables."""
    return quick_jit(MODEL.init)(jax.random.key(0), IMAGES)


@pytest.fixture(scope="module", params=["auto", pytest.param("reference", marks=pytest.mark.proof)])
def network(request, variables):
    """Returns params -> logits, parameters none of which is zero, and a direction among them."""
    model = MODEL.clone(compute=request.param)
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


def with_loss(apply):
    """Returns a function of the parameters that returns the loss and the logits."""

    def both(params):
        logits = apply(params)
        return jnp.sum(jnp.sin(logits)), logits

    return both


def loss_of(apply):
    return lambda params: with_loss(apply)(params)[0]


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
        _, (loss_forward, forward) = jax.jvp(with_loss(apply), (params,), (along,))
        # A loop, whose body is compiled once.
        ends = jax.lax.map(
            lambda distance: jax.grad(with_loss(apply), has_aux=True)(at(distance)),
            jnp.array([STEP, -STEP]),
        )
        gradients, logits = jax.tree.map(lambda leaf: (leaf[0] - leaf[1]) / (2 * STEP), ends)
        return {
            "forward": forward,
            "linearize": jax.linearize(apply, params)[1](along),
            "difference": logits,
            "backward": sum(
                jnp.vdot(dx, d)
                for dx, d in zip(*map(jax.tree.leaves, (gradient, along)), strict=True)
            ),
            "forward, of the loss": loss_forward,
            "curvature": curvature,
            "curvature, backwards": jax.vjp(jax.grad(loss), params)[1](along)[0],
            "curvature, difference": gradients,
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
        return {
            "jacfwd": jax.jacfwd(of_norm)(norm),
            "jacrev": jax.jacrev(of_norm)(norm),
            "hessian": jax.hessian(lambda n: jnp.sum(jnp.sin(of_norm(n))))(norm),
            "hessian, backwards": jax.jacrev(jax.grad(lambda n: jnp.sum(jnp.sin(of_norm(n)))))(
                norm
            ),
            "vmap": jax.vmap(jax.value_and_grad(loss))(several),
            "one by one": jax.lax.map(jax.value_and_grad(loss), several),
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
