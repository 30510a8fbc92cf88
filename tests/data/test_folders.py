"""A folder tree of image files: which are listed, in which order, with which labels."""

import pickle

import numpy as np
import pytest

from shunted_jax.data.sources import open_source
from shunted_jax.errors import UserError
from tests.data.images import encode, photograph, write_tree

COUNTS = {"train": {"cat": 30, "dog": 20, "owl": 10}, "val": {"dog": 4, "owl": 3}}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder, COUNTS)
    (folder / "val" / "owl" / "upper.PNG").write_bytes(encode(photograph(9, 9), "png"))
    for stranger in ("train/cat/notes.txt", "train/cat/.hidden.jpg", "train/.git/x.jpg", "LICENSE"):
        (folder / stranger).parent.mkdir(exist_ok=True)
        (folder / stranger).write_bytes(b"not an image")
    return folder


def files(source):
    return [
        example["file_name"] for example in map(source.examples.__getitem__, range(len(source)))
    ]


def test_every_image_is_listed_once_with_its_class(tree):
    for split, count in (("train", 60), ("val", 8)):
        source = open_source(str(tree), split)
        assert source.class_names == ("cat", "dog", "owl")  # train's, in both
        assert len(source) == count
        names = files(source)
        assert len(set(names)) == count
        for index, name in enumerate(names):
            example = source.examples[index]
            assert source.class_names[example["label"]] == name.split("/")[1]
            assert example["image"] == (tree / name).read_bytes()


def test_parts_are_a_split_in_pieces_that_hold_every_class(tree):
    whole = files(open_source(str(tree), "train"))
    first, rest = (open_source(str(tree), f"train[{part}]") for part in (":75%", "75%:"))
    assert files(first) + files(rest) == whole
    assert {rest.examples[i]["label"] for i in range(len(rest))} == {0, 1, 2}
    both = open_source(str(tree), "train[:5]+val[-2:]")
    assert files(both) == whole[:5] + files(open_source(str(tree), "val"))[-2:]


def test_order_is_that_of_the_names_alone(tree, tmp_path):
    again = write_tree(tmp_path, {"train": dict(reversed(COUNTS["train"].items()))})
    assert files(open_source(again, "train")) == files(open_source(str(tree), "train"))


def test_workers_are_sent_little(tree):
    source = open_source(str(tree), "train")
    sent = pickle.dumps(source)
    assert len(sent) < 60 * 40 + 2000
    copy = pickle.loads(sent)
    assert files(copy) == files(source)
    assert (
        copy.describe(7) == source.describe(7) == f"example 7 of {tree}, train ({files(source)[7]})"
    )


def test_positions_end_where_the_split_does(tree):
    examples = open_source(str(tree), "val").examples
    for index in (8, -1):
        with pytest.raises(IndexError, match="of 8"):
            examples[index]
    assert len(list(examples)) == 8


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("valid", "'valid'.*'train', 'val'"),
        ("train[:x]", "cannot give the split 'train"),
        ("test", "'test'"),
    ],
)
def test_splits_that_are_not_there(tree, split, message):
    with pytest.raises(UserError, match=message):
        open_source(str(tree), split)


def test_a_class_that_train_lacks_is_named(tmp_path):
    folder = write_tree(tmp_path, {"train": {"cat": 1}, "val": {"cat": 1, "cow": 1}})
    with pytest.raises(UserError, match=r"val has the class 'cow', which .*train has not"):
        open_source(folder, "val")


def test_a_split_without_images_says_where_they_belong(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.jpg").write_bytes(encode(np.zeros((9, 9, 3), np.uint8)))
    with pytest.raises(UserError, match="holds no images.*, but 1 file .*/CLASS/FILE"):
        open_source(str(tmp_path), "train")


@pytest.mark.parametrize("dataset", ["./no", "~/no", "/no/at/all", "my no/24/x", "no/"])
def test_a_folder_that_is_not_there(dataset):
    with pytest.raises(UserError, match=f"'{dataset}', and there is no such folder"):
        open_source(dataset, "train")
