"""The network of a configuration: what it is built from, and what is refused in words."""

import jax.numpy as jnp
import pytest

from shunted_jax.config import Config, DataConfig, ModelConfig, resolve
from shunted_jax.errors import UserError
from shunted_jax.tasks import make_task
from shunted_jax.tasks.network import make_classifier
from shunted_jax.training.run import make_run
from shunted_jax.training.scoring import score_checkpoint


def make_config(*, image_size=224, **model):
    return resolve(
        Config(
            model=ModelConfig(**model), data=DataConfig(dataset="nowhere", image_size=image_size)
        )
    )


def test_fields_are_those_of_the_configuration():
    config = make_config(name="shunted_s", drop_path_rate=0.2, dtype="bfloat16", precision="high")
    model = make_classifier(config, num_classes=7)
    assert (model.depths, model.num_stem_convs) == ((2, 4, 12, 1), 1)
    assert (model.drop_path_rate, model.dtype, model.precision) == (0.2, jnp.bfloat16, "high")
    assert (model.num_classes, model.in_channels) == (7, 3)
    assert make_task(config, 7).make_model() == model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "shunted_tt"},
            "config.model.name is 'shunted_tt'; the models are shunted_b, shunted_s, shunted_t",
        ),
        ({"drop_path_rate": 1.5}, "config.model: .*drop_path_rate is 1.5"),
        ({"compute": "fast"}, "config.model: .*compute is 'fast', and must be one of auto"),
        ({"precision": "most"}, "config.model: .*precision is 'most', and must be None or one of"),
        ({"image_size": 31}, "config.data.image_size is 31, and shunted_t wants at least 32"),
    ],
)
def test_what_cannot_be_built_is_refused_before_the_data_are_opened(changes, message):
    config = make_config(**changes)
    for start in (make_run, lambda config: score_checkpoint(config, "nowhere")):
        with pytest.raises(UserError, match=message):
            start(config)
