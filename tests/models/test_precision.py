"""Products of float32 are as precise as they are asked to be, whatever computes them."""

import jax
import jax.numpy as jnp
import pytest

from shunted_jax.models import ShuntedTransformer, create_model
from tests.support.products import float32_precisions

PLATFORMS = ("tpu", "cuda", "cpu")
# Two groups of heads and one, a patch embedding, a loop over blocks.
MODEL = ShuntedTransformer(
    depths=(2, 1),
    embed_dims=(32, 64),
    num_heads=(2, 2),
    mlp_ratios=(8, 4),
    sr_ratios=(2, 1),
    num_stem_convs=1,
    num_classes=5,
)


def gradients_of(model, setting=None):
    """Returns the program of a loss's gradients, traced; the forward pass's products are in it.

    Args:
        model: the network.
        setting: JAX's own, while the network is called, and then no more.
    """

    def loss(params, batch_stats, images):
        with jax.default_matmul_precision(setting):
            logits, _ = model.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
        return jnp.sum(logits**2)

    images = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(MODEL.init, jax.random.key(0), images)
    return jax.jit(jax.grad(loss)).trace(variables["params"], variables["batch_stats"], images)


def precisions(traced, platforms=PLATFORMS):
    """Returns what the products of float32 ask for on any of the platforms."""
    found = [float32_precisions(traced.lower(lowering_platforms=(at,))) for at in platforms]
    assert min(map(len, found)) > 2
    return set().union(*found)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"compute": "reference"},
        {"scan_blocks": True, "remat": True},
        {"attn_drop_rate": 0.1},
        {"dtype": jnp.bfloat16},
    ],
    ids=str,
)
def test_every_product_is_as_precise_as_the_network(fields):
    assert precisions(gradients_of(MODEL.clone(precision="highest", **fields))) == {"HIGHEST"}


def test_the_platform_decides_where_nobody_does():
    # Sums of a CPU's forms are as precise as they can be all the same.
    assert precisions(gradients_of(MODEL), ("tpu", "cuda")) == {"DEFAULT"}


@pytest.mark.parametrize("compute", ["auto", "reference"])
def test_jaxs_own_setting_decides_where_the_network_does_not(compute):
    found = precisions(gradients_of(MODEL.clone(compute=compute), setting="highest"))
    assert found == {"HIGHEST"}


def test_the_networks_goes_before_jaxs_own_setting():
    traced = gradients_of(MODEL.clone(precision="high"), setting="highest")
    assert precisions(traced, ("tpu", "cuda")) == {"HIGH"}


def test_no_product_is_forgotten_around_the_kernels():
    model = MODEL.clone(dtype=jnp.bfloat16, compute="pallas", precision="highest")
    assert precisions(gradients_of(model), ("tpu",)) == {"HIGHEST"}


@pytest.mark.parametrize("precision", ["float", "", 1.0, ["highest"]])
def test_other_precisions_are_refused(precision):
    with pytest.raises(ValueError, match="precision is .*, and must be None or one of default, h"):
        create_model("shunted_t", precision=precision)


@pytest.mark.parametrize("precision", [None, "default", "high", "highest", *jax.lax.Precision])
def test_names_and_members_are_taken(precision):
    assert create_model("shunted_t", precision=precision).numerics.precision is precision
