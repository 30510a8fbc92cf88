"""The network on a mesh whose axes are Explicit, as those of `jax.make_mesh` are by default."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from shunted_jax.models import ShuntedTransformer
from tests.support.quick import quick_jit
from tests.support.tiny import ONE_STAGE, TWO_STAGES, random_variables

pytestmark = pytest.mark.devices(4)

MODEL = ShuntedTransformer(**ONE_STAGE, num_classes=3, drop_path_rate=0.5)
IMAGES = np.random.default_rng(0).standard_normal((8, 16, 16, 3)).astype(np.float32)


def results(model):
    """Returns (variables, images, key) -> gradients of a loss in training, statistics, logits."""

    def loss(params, variables, images, key):
        logits, updates = model.apply(
            {**variables, "params": params},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return jnp.mean(jnp.sin(logits)), (updates, logits)

    def of_arrays(variables, images, key):
        return jax.grad(loss, has_aux=True)(variables["params"], variables, images, key)

    return of_arrays


def placed(arrays, mesh, *axes):
    return jax.device_put(arrays, NamedSharding(mesh, P(*axes)))


def test_results_are_those_of_one_device():
    variables, key = random_variables(MODEL), jax.random.key(1)
    expected = quick_jit(results(MODEL))(variables, IMAGES, key)
    mesh = jax.make_mesh((4,), ("data",))
    assert mesh.axis_types == (AxisType.Explicit,)
    images = placed(IMAGES, mesh, "data")
    with jax.set_mesh(mesh):
        found = quick_jit(results(MODEL))(placed(variables, mesh), images, placed(key, mesh))
    _, (_, logits) = found
    assert logits.sharding.spec[0] == "data"
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest), found, expected
    )
    # For inference nobody needs to place parameters, nor to say which mesh it is.
    assert jax.jit(MODEL.apply).lower(variables, images).out_info.sharding.spec[0] == "data"


@pytest.mark.proof
def test_forms_of_every_platform_are_lowered():
    model = ShuntedTransformer(
        **TWO_STAGES, num_classes=3, drop_rate=0.1, attn_drop_rate=0.1, dtype=jnp.bfloat16
    )
    mesh = jax.make_mesh((2, 2), ("data", "fsdp"))

    def shapes(arrays, *axes):
        sharding = NamedSharding(mesh, P(*axes))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), arrays
        )

    traced = jax.jit(results(model)).trace(
        shapes(random_variables(model)),
        shapes(IMAGES, ("data", "fsdp")),
        shapes(jax.eval_shape(lambda: jax.random.key(0))),
    )
    traced.lower(lowering_platforms=("cpu", "cuda", "tpu"))
