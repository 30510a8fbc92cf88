"""Rematerialisation: less memory, and nothing else that differs."""

import jax
import jax.numpy as jnp
import numpy as np

from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.cost import all_equations
from tests.support.quick import quick_jit
from tests.support.tiny import ONE_STAGE

MODEL = ShuntedTransformer(
    **ONE_STAGE | {"depths": (2,), "sr_ratios": (1,)},
    num_classes=5,
    drop_path_rate=0.5,
    compute="reference",  # whose exponentials can be counted
)
IMAGES = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)


def test_gradients_statistics_and_draws_are_the_same():
    init = quick_jit(MODEL.init)
    variables = init(jax.random.key(0), IMAGES)

    def results(model):
        def loss_fn(params):
            logits, updates = model.apply(
                {**variables, "params": params},
                IMAGES,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            return jnp.sum(logits**2), updates

        step = jax.value_and_grad(loss_fn, has_aux=True)
        jaxpr = jax.make_jaxpr(step)(variables["params"]).jaxpr
        exponentials = sum(e.primitive.name == "exp" for _, e in all_equations(jaxpr))
        return quick_jit(step)(variables["params"]), exponentials

    (kept, once), (again, twice) = (results(model) for model in (MODEL, MODEL.clone(remat=True)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), kept, again)
    # The softmax of each block is computed once more; whether XLA merges the two, as it may on a
    # CPU, is its own affair.
    assert twice == once + 2


def test_parameters_and_evaluation_do_not_know_of_it():
    key = jax.random.key(0)
    shapes = jax.eval_shape(MODEL.init, key, IMAGES)
    remat = MODEL.clone(remat=True)
    assert jax.eval_shape(remat.init, key, IMAGES) == shapes
    in_training = jax.eval_shape(
        lambda: remat.init({"params": key, "dropout": key}, IMAGES, train=True)
    )
    assert in_training == shapes
    same = [str(jax.make_jaxpr(model.apply)(shapes, IMAGES)) for model in (MODEL, remat)]
    assert same[0] == same[1]
