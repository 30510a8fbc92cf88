"""How much of a batch goes through at a time, and what is left whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from shunted_jax.models import ShuntedTransformer
from shunted_jax.ops import attention as dot_product
from shunted_jax.ops import feed_forward as detail
from shunted_jax.ops.at_a_time import at_a_time

MODEL = ShuntedTransformer(
    embed_dims=(8, 16),
    depths=(1, 1),
    num_heads=(2, 2),
    mlp_ratios=(2, 2),
    sr_ratios=(2, 1),
    num_classes=3,
)


@pytest.mark.parametrize(
    ("count", "size", "together"),
    [
        (12, 10, 4),
        (12, 1, 12),
        (12, 100, 1),  # not even one fits
        (26, 10, 2),
        (7, 10, 1),  # four fit, and one is a quarter of that
        (7, 8, 7),  # five fit
        (0, 10, 0),
    ],
)
def test_it_is_the_largest_divisor_near_what_fits(count, size, together):
    assert at_a_time(count, size, limit=45) == together


def test_devices_that_share_a_batch_take_it_whole():
    mesh = jax.sharding.AbstractMesh((2, 4), ("data", "fsdp"))
    with jax.sharding.use_abstract_mesh(mesh):
        assert at_a_time(12, size=10, limit=45) == 12


@pytest.fixture
def variables(monkeypatch):
    for module, limit in ((detail, "_AT_A_TIME"), (dot_product, "_AT_ONCE")):
        monkeypatch.setattr(module, limit, 1)
    return MODEL.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_a_program_is_exported_for_any_batch(variables):
    (batch,) = export.symbolic_shape("batch")
    apply = jax.jit(lambda images: MODEL.apply(variables, images))
    platforms = ("cpu", "cuda", "tpu")
    images = jax.ShapeDtypeStruct((batch, 32, 32, 3), jnp.float32)
    exported = export.export(apply, platforms=platforms)(images)
    images = np.random.default_rng(0).standard_normal((3, 32, 32, 3), np.float32)
    np.testing.assert_allclose(exported.call(images), apply(images), rtol=0, atol=1e-5)


def test_no_images_give_no_logits(variables):
    assert MODEL.apply(variables, jnp.zeros((0, 32, 32, 3))).shape == (0, 3)
