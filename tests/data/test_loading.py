"""Images that cannot be decoded: named and refused, or replaced, counted and named."""

import logging

import numpy as np
import pytest

from shunted_jax.config import AugmentConfig, Config, DataConfig
from shunted_jax.data.crops import CenterCrop, PaddedCrop
from shunted_jax.data.loading import NONE_BAD, LoadForEvaluation, LoadForTraining
from shunted_jax.data.pipeline import eval_batches, train_batches
from shunted_jax.data.sources import Source, open_source
from shunted_jax.data.transforms import EvalTransform, TrainTransform
from shunted_jax.errors import UserError
from tests.data.images import encode, photograph, write_tree

TRAIN = TrainTransform(PaddedCrop(32, 0), flip_prob=0.0)
EVAL = EvalTransform(CenterCrop(32, 1.0))
GOOD = [encode(photograph(32, 32, seed), "png") for seed in range(8)]
BAD = (2, 3, 7)


@pytest.fixture(scope="module")
def source():
    images = [b"" if index in BAD else image for index, image in enumerate(GOOD)]
    examples = [
        {"image": image, "label": label, "file_name": f"{label}.png"}
        for label, image in enumerate(images)
    ]
    return Source(examples, tuple("abcdefgh"), "letters, train")


def make_config(**data):
    return Config(
        data=DataConfig(image_size=32, **data),
        augment=AugmentConfig(crop_padding=0, flip_prob=0.0),
        batch_size=8,
        eval_batch_size=3,
    )


def rng():
    return np.random.default_rng(0)


def test_good_images_are_loaded(source):
    row = LoadForTraining(source, TRAIN)(4, rng())
    np.testing.assert_array_equal(row["image"], photograph(32, 32, 4))
    assert (row["label"], row["bad"]) == (4, NONE_BAD)
    row = LoadForEvaluation(source, EVAL)(4)
    np.testing.assert_array_equal(row["image"], photograph(32, 32, 4))
    assert (row["label"], row["bad"], row["mask"]) == (4, NONE_BAD, True)


@pytest.mark.parametrize("index", BAD)
def test_bad_images_are_named(source, index):
    message = rf"example {index} of letters, train \({index}.png\) cannot be decoded.*on_bad_image"
    with pytest.raises(UserError, match=message):
        LoadForTraining(source, TRAIN)(index, rng())
    with pytest.raises(UserError, match=message):
        LoadForEvaluation(source, EVAL)(index)


@pytest.mark.parametrize(("index", "replacement"), [(2, 4), (3, 4), (7, 0)])
def test_the_next_good_example_takes_the_place(source, index, replacement):
    row = LoadForTraining(source, TRAIN, "skip")(index, rng())
    np.testing.assert_array_equal(row["image"], photograph(32, 32, replacement))
    assert (row["label"], row["bad"]) == (replacement, index)


def test_evaluation_leaves_them_out(source):
    row = LoadForEvaluation(source, EVAL, "skip")(3)
    assert (row["mask"], row["bad"]) == (False, 3)


def test_nothing_but_bad_images_is_an_error():
    nothing = Source([{"image": b"", "label": 0}] * 300, ("a",), "nothing, train")
    with pytest.raises(UserError, match="100 images in a row.*example 5 of nothing, train on"):
        LoadForTraining(nothing, TRAIN, "skip")(5, rng())


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_reach_the_one_who_reads(source, workers):
    batches = train_batches(source, make_config(num_workers=workers))
    with pytest.raises(Exception, match=r"of letters, train \(.\.png\) cannot be decoded"):
        next(batches)
    batches.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_images_are_counted_and_named_once(source, workers, caplog):
    with caplog.at_level(logging.WARNING, "shunted_jax"):
        batches = train_batches(source, make_config(on_bad_image="skip", num_workers=workers))
        labels = np.concatenate([next(batches)["label"] for _ in range(5)])  # five epochs
        batches.close()
    assert [batches.bad_images(number) for number in range(6)] == [n * len(BAD) for n in range(6)]
    assert np.bincount(labels, minlength=8).tolist() == [10, 5, 0, 0, 15, 5, 5, 0]
    named = [record.getMessage() for record in caplog.records]
    assert sorted(named) == [
        f"example {i} of letters, train ({i}.png) cannot be decoded: skipped" for i in BAD
    ]


def test_evaluation_counts_them_too(source):
    batches = eval_batches(source, make_config(on_bad_image="skip"))
    taken = list(batches)
    labels = np.concatenate([batch["label"][batch["mask"]] for batch in taken])
    assert sorted(labels) == [0, 1, 4, 5, 6]
    assert batches.bad_images(len(taken)) == 3


def test_a_file_that_vanished_is_no_bad_image(tmp_path):
    source = open_source(write_tree(tmp_path, {"train": {"cat": 2}}), "train")
    for file in (tmp_path / "train" / "cat").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="cat"):
        LoadForTraining(source, TRAIN, "skip")(0, rng())
