"""Labels that are none: what tensorflow-datasets gives where a challenge keeps them to itself."""

import numpy as np
import pytest

from shunted_jax.data.loading import LoadForEvaluation, LoadForTraining
from shunted_jax.data.recipe import make_eval_transform, make_train_transform
from shunted_jax.data.sources import Source
from shunted_jax.errors import UserError
from tests.data.images import encode, photograph
from tests.support.tiny import tiny_config


@pytest.mark.parametrize("label", [-1, 2])  # datasets#349, #1356
def test_an_image_without_a_label_is_named(label):
    config = tiny_config(None)
    examples = [
        {"image": encode(photograph(40, 40)), "label": of, "file_name": f"{of}.jpg"}
        for of in (1, label)
    ]
    source = Source(examples, ("cat", "dog"), "pets, test")
    train = LoadForTraining(source, make_train_transform(config))
    evaluate = LoadForEvaluation(source, make_eval_transform(config))
    rng = np.random.default_rng(0)
    assert train(0, rng)["label"] == evaluate(0)["label"] == 1
    message = (
        rf"example 1 of pets, test \({label}.jpg\) has the label {label}, and the classes are "
        "numbered from 0 to 1: take a split whose images are labelled"
    )
    for load in (lambda: train(1, rng), lambda: evaluate(1)):
        with pytest.raises(UserError, match=message):
            load()
