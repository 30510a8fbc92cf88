"""The configuration that several tests of whole runs change at will."""

import pytest

from shunted_jax.config import resolve
from tests.support.tiny import tiny_config


@pytest.fixture
def make_config(digits_dir, tiny_variant):
    """Returns a function that makes the configuration of a run of 9 steps, changed at will."""

    def make(**changes):
        return resolve(
            tiny_config(
                digits_dir,
                model={"name": tiny_variant},
                data={"train_split": "train[:96]", "eval_split": "test[:37]"},
                optimizer={"learning_rate": 3e-3},
                **{"batch_size": 32} | changes,
            )
        )

    return make
