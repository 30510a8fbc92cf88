"""Images that cannot be decoded: named and refused, or replaced, counted and named."""

import logging
import os

import numpy as np
import pytest

from shunted_jax.config import AugmentConfig, Config, DataConfig
from shunted_jax.data.crops import CenterCrop, PaddedCrop
from shunted_jax.data.loading import NONE_BAD, LoadForEvaluation, LoadForTraining
from shunted_jax.data.pipeline import eval_batches, train_batches
from shunted_jax.data.sources import Source, open_source
from shunted_jax.data.transforms import EvalTransform, TrainTransform
from shunted_jax.errors import RunError, UserError
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
        f"example {i} of letters, train ({i}.png) cannot be decoded (an empty file): skipped"
        for i in BAD
    ]


def test_evaluation_counts_them_too(source):
    batches = eval_batches(source, make_config(on_bad_image="skip"))
    taken = list(batches)
    labels = np.concatenate([batch["label"][batch["mask"]] for batch in taken])
    assert sorted(labels) == [0, 1, 4, 5, 6]
    assert batches.bad_images(len(taken)) == 3


@pytest.fixture
def tree(tmp_path):
    """Returns a folder of four images in two classes, and three files that cannot be read."""
    folder = tmp_path / "tree"
    write_tree(folder, {"train": {"cat": 2, "dog": 2}})
    (folder / "train" / "cat" / "nowhere.jpg").symlink_to("gone.jpg")
    (folder / "train" / "dog" / "folder.jpg").mkdir()
    os.mkfifo(folder / "train" / "dog" / "pipe.jpg")
    return folder


def test_what_cannot_be_read_is_a_bad_image(tree):
    source = open_source(str(tree), "train")
    reasons = {"nowhere": "a link to nothing", "folder": "a folder", "pipe": "no file"}
    assert len(source) == 7
    found = set()
    for index in range(7):
        name = source.describe(index).rpartition("/")[2].partition(".")[0]
        if name not in reasons:
            assert LoadForTraining(source, TRAIN)(index, rng())["bad"] == NONE_BAD
            continue
        found.add(name)
        message = rf"{name}.jpg\) cannot be decoded: it is {reasons[name]}.*on_bad_image=skip"
        with pytest.raises(UserError, match=message):
            LoadForTraining(source, TRAIN)(index, rng())
        with pytest.raises(UserError, match=message):
            LoadForEvaluation(source, EVAL)(index)
        assert LoadForTraining(source, TRAIN, "skip")(index, rng())["bad"] == index
        row = LoadForEvaluation(source, EVAL, "skip")(index)
        assert (row["mask"], row["bad"]) == (False, index)
    assert found == set(reasons)


def test_files_that_vanish_are_bad_images_until_all_have(tree):
    source = open_source(str(tree), "train")
    files = list(tree.glob("train/*/?.jpg"))
    for file in files[1:]:
        file.unlink()
    row = LoadForTraining(source, TRAIN, "skip")(0, rng())
    assert row["label"] == ["cat", "dog"].index(files[0].parent.name)
    files[0].unlink()
    with pytest.raises(UserError, match="100 images in a row cannot be decoded"):
        LoadForTraining(source, TRAIN, "skip")(0, rng())


@pytest.mark.parametrize("batches_of", [train_batches, eval_batches])
def test_a_folder_that_vanishes_is_not_skipped(tree, batches_of):
    source = open_source(str(tree), "train")
    (tree / "train").rename(tree / "elsewhere")
    batches = batches_of(source, make_config(on_bad_image="skip"))
    with pytest.raises(RunError, match=r"train/(cat|dog), which was there, cannot be read"):
        next(batches)
    batches.close()
