"""The evaluation step computes in float32, whatever the platform takes that for."""

import jax
import jax.numpy as jnp
import pytest

from shunted_jax.config import Config, DataConfig, ModelConfig
from shunted_jax.tasks import make_task
from shunted_jax.training.step.steps import make_eval_step
from tests.support.products import float32_precisions

PLATFORMS = ("tpu", "cuda")
TASK = make_task(
    Config(model=ModelConfig(name="shunted_t"), data=DataConfig(image_size=32), eval_batch_size=8),
    num_classes=5,
)


def lowered_for_each_platform(step, model):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    traced = jax.jit(step).trace(variables, TASK.abstract_eval_batch())
    return [traced.lower(lowering_platforms=(platform,)) for platform in PLATFORMS]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scan_blocks": True},
        {"dtype": jnp.bfloat16, "precision": "default"},
        {"dtype": jnp.bfloat16, "compute": "pallas"},
    ],
    ids=str,
)
def test_all_products_are_of_float32(fields):
    model = TASK.make_model().clone(**fields)
    for lowered in lowered_for_each_platform(make_eval_step(model, TASK), model):
        assert "bf16" not in lowered.as_text()
        found = float32_precisions(lowered)
        assert len(found) > 50
        assert set(found) == {"HIGHEST"}


def test_they_would_not_be_otherwise():
    model = TASK.make_model()

    def step(variables, batch):
        return TASK.score(lambda images: model.apply(variables, images), batch)

    for lowered in lowered_for_each_platform(step, model):
        found = float32_precisions(lowered)
        assert len(found) > 50
        assert set(found) == {"DEFAULT"}
