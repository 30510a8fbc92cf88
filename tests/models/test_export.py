"""The network as a program for batches and sides of any length: `jax.export`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from shunted_jax.models import ShuntedTransformer
from tests.support.draws import draw
from tests.support.quick import quick_jit
from tests.support.tiny import ONE_STAGE, TWO_STAGES, random_variables

MODEL = ShuntedTransformer(
    **TWO_STAGES | {"embed_dims": (4, 8), "mlp_ratios": (1, 1)}, num_classes=3
)
VARIABLES = random_variables(MODEL)
PLATFORMS = ("cpu", "cuda", "tpu")


def free(sizes, *constraints):
    return jax.ShapeDtypeStruct(
        export.symbolic_shape(f"b, {sizes}, 3", constraints=constraints), jnp.float32
    )


@pytest.mark.parametrize(
    ("compute", "images", "sizes"),
    [
        ("auto", free("8*h, 8*w"), [(1, 16, 24), (2, 24, 8)]),
        pytest.param(
            *("reference", free("h, w", "h >= 8", "w >= 8"), [(1, 17, 9), (2, 8, 16)]),
            marks=pytest.mark.proof,
        ),
    ],
    ids=["auto", "reference"],
)
def test_exported_programs_give_what_the_network_gives(compute, images, sizes):
    model = MODEL.clone(compute=compute)
    assert model.min_image_size == 8
    exported = export.export(jax.jit(model.apply), platforms=PLATFORMS)(VARIABLES, images)
    for number, size in enumerate(sizes):
        (x,) = draw((*size, 3), seed=number)
        expected = quick_jit(model.apply)(VARIABLES, x)
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(exported.call(VARIABLES, x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sizes", ["8*h, 8*w", "40, 40"])
def test_gradients_are_exported(sizes):
    model = ShuntedTransformer(**ONE_STAGE, num_classes=3)

    def loss(variables, images):
        return jnp.mean(jnp.sin(model.apply(variables, images)))

    variables = random_variables(model)
    exported = export.export(jax.jit(jax.grad(loss)), platforms=PLATFORMS)(variables, free(sizes))
    assert exported.platforms == PLATFORMS


def test_what_may_be_too_small_is_refused():
    with pytest.raises(Exception, match="Symbolic dimension comparison 'h' < '8' is inconclusive"):
        export.export(jax.jit(MODEL.apply))(VARIABLES, free("h, w"))
