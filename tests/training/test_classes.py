"""A head belongs to classes, which are told by their names, not to a number of them."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from shunted_jax.adapters.tfds import imagenet_synsets
from shunted_jax.checkpoints import Metadata, Weights, write_weights
from shunted_jax.models import create_model
from shunted_jax.models.architecture import architecture_of
from shunted_jax.models.variables import abstract_variables
from shunted_jax.training.classes import names_of, outputs_of
from shunted_jax.training.fine_tuning import initialize_from
from shunted_jax.training.step.state import TrainState
from tests.support.tiny import random_variables

PETS = ["cat", "dog", "owl"]


@pytest.fixture
def write(tiny_variant, tmp_path):
    """Returns a function that writes weights for classes, named or so many, and returns them."""

    def write(classes):
        named = not isinstance(classes, int)
        model = create_model(tiny_variant, num_classes=len(classes) if named else classes)
        variables = random_variables(model)
        meta = Metadata(architecture_of(model), class_names=list(classes) if named else None)
        write_weights(tmp_path / "run", Weights(**variables, meta=meta), overwrite=True)
        return str(tmp_path / "run"), variables["params"]

    return write


@pytest.fixture
def start(tiny_variant, caplog):
    """Returns a function that gives a run's first parameters, and what is said of them."""
    caplog.set_level(logging.INFO, logger="shunted_jax")

    def start(path, names):
        model = create_model(tiny_variant, num_classes=len(names))
        zeros = traverse_util.unflatten_dict(
            {at: jnp.zeros(leaf.shape) for at, leaf in abstract_variables(model).items()}
        )
        fresh = TrainState(step=0, opt_state=None, ema_params=zeros["params"], **zeros)
        caplog.clear()
        state = initialize_from(path, model, names, lambda _: fresh)(jax.random.key(0))
        jax.tree.map(np.testing.assert_array_equal, state.params, state.ema_params)
        return state.params, caplog.messages[-1]

    return start


@pytest.mark.parametrize(
    ("saved", "names", "outputs", "said"),
    [
        (PETS, PETS, [0, 1, 2], "with its head of 3 classes"),
        (PETS, ["owl", "cat", "dog"], [2, 0, 1], "head of 3 classes, put into the order of the"),
        (3, PETS, [0, 1, 2], "whose names it does not have: labels are taken to mean the same"),
        (
            ["n01440764", "n01443537"],
            ["n01443537 goldfish", "n01440764_tench"],
            [1, 0],
            "put into the order of the data's",
        ),
        (
            PETS[:2],
            ["apple", "pear"],
            None,
            "with a new head for 2 classes ('apple', 'pear'): they are not the 2 ('cat', 'dog') "
            "that it tells apart",
        ),
        # One more, one less, one other: all but the names that differ would be guesses.
        (PETS, [*PETS, "bat"], None, "4 classes ('bat', 'cat', 'dog', ...): they are not the 3 "),
        (PETS, PETS[:2], None, "2 classes ('cat', 'dog'): they are not the 3 ('owl', 'cat', 'dog'"),
        (PETS, ["cat", "dog", "bat"], None, "('bat', 'cat', 'dog'): they are not the 3 ('owl', "),
        (5, PETS, None, "new head for 3 classes ('cat', 'dog', 'owl'): they are not the 5 that it"),
        (0, PETS, None, "with a new head for 3 classes ('cat', 'dog', 'owl')"),
    ],
    ids=str,
)
def test_a_head_is_kept_for_the_classes_that_it_was_trained_on(
    write, start, saved, names, outputs, said
):
    path, before = write(saved)
    after, told = start(path, names)
    assert said in told
    assert told.startswith(f"starting from {path}, with ")
    head = after.pop("head")
    if outputs is None:
        assert not head["kernel"].any()
        assert head["bias"].shape == (len(names),)
    else:
        for name in ("kernel", "bias"):
            np.testing.assert_array_equal(head[name], before["head"][name][..., outputs])
    before.pop("head", None)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_classes_that_nobody_named_are_imagenets_where_they_are_as_many(tiny_variant):
    def about(num_classes, class_names=None):
        model = create_model(tiny_variant, num_classes=num_classes)
        return Metadata(architecture_of(model), class_names)

    synsets = imagenet_synsets()
    assert (len(synsets), synsets[0], synsets[-1]) == (1000, "n01440764", "n15075141")
    assert names_of(about(1000)) == synsets
    assert names_of(about(1000, [f"c{i}" for i in range(1000)]))[7] == "c7"
    assert names_of(about(21841)) is None
    # ImageNet-R's folders are synsets; others put words behind, or around them.
    folders = ["n01443537", "n01484850_great_white_shark", "2.n01440764.tench", "xn01440764"]
    assert outputs_of(folders, synsets) == [1, 2, 0, None]
    assert outputs_of(["crane", "crane"], ["crane", "crane"]) == [0, 1]
