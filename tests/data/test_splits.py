"""Expressions of splits: which examples they are, which two of them share, what was meant."""

import pytest

from shunted_jax.data.splits import Part, info_of, nearest_split, parts_of, shared
from shunted_jax.errors import UserError

INFOS = {"train": info_of("train", 100), "val": info_of("val", 10)}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("train", "val", 0),
        ("train[:90%]", "train[90%:]", 0),
        ("train[:90%]", "train[80%:]", 10),
        ("train", "train[-1:]", 1),
        ("val+train[:5]", "train[3:8]+val[2:4]", 4),
    ],
)
def test_shared_examples_are_counted(one, other, both):
    parts = [parts_of(split, INFOS, "x") for split in (one, other)]
    assert shared(*parts) == shared(*reversed(parts)) == both


def test_parts_are_those_of_tensorflow_datasets():
    assert parts_of("val+train[:5%]", INFOS, "x") == (Part("val", 0, 10), Part("train", 0, 5))
    assert parts_of("all", INFOS, "x") == (Part("train", 0, 100), Part("val", 0, 10))
    for split in ("train[", "train[:x]", "train[:101]", "all[:5%]", ""):
        with pytest.raises(UserError, match="x cannot give the split"):
            parts_of(split, INFOS, "x")


@pytest.mark.parametrize(
    ("name", "there", "meant"),
    [
        ("train", ["Train", "train"], "train"),
        ("train", ["TRAIN", "val"], "TRAIN"),
        ("test", ["train", "val"], "val"),
        ("test", ["val", "testing"], "testing"),
        ("validation", ["train", "test", "Val"], "Val"),
        ("train", ["val", "test"], None),
        ("fold1", ["fold2"], None),
    ],
)
def test_the_split_that_was_meant(name, there, meant):
    assert nearest_split(name, there) == meant
