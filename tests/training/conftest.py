"""The configuration that several tests of whole runs change at will."""

import pytest

from shunted_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    resolve,
)


@pytest.fixture
def make_config(digits_dir, tiny_variant):
    """Returns a function that makes the configuration of a run of 9 steps, changed at will."""

    def make(**changes):
        return resolve(
            Config(
                model=ModelConfig(name=tiny_variant, drop_path_rate=0.1),
                data=DataConfig(
                    dataset="digits",
                    data_dir=digits_dir,
                    train_split="train[:96]",
                    eval_split="test[:37]",
                    image_size=32,
                    num_threads=1,
                ),
                augment=AugmentConfig(crop_padding=2, flip_prob=0.0),
                optimizer=OptimizerConfig(learning_rate=3e-3, warmup_epochs=0.5),
                **{
                    "batch_size": 32,
                    "eval_batch_size": 16,
                    "epochs": 3.0,
                    "log_every_steps": 2,
                    **changes,
                },
            )
        )

    return make
