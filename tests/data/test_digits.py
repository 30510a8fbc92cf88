"""The digits are scikit-learn's, all of them, split the same way every time."""

import hashlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from shunted_jax.commands import prepare
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.sources import open_source


def decoded(digits_dir, split):
    source = open_source("digits", split, digits_dir)
    pixels = [EncodedImage(example["image"]).decode() for example in source.examples]
    return np.stack(pixels), np.array([example["label"] for example in source.examples])


def test_splits_hold_every_image_once_pixel_for_pixel(digits_dir):
    train, test = decoded(digits_dir, "train"), decoded(digits_dir, "test")
    assert len(train[0]) == 1437
    assert len(test[0]) == 360
    original = load_digits()
    expected = sorted(
        (int(label), np.round(pixels * 255 / 16).astype(np.uint8).tobytes())
        for label, pixels in zip(original.target, original.images, strict=True)
    )
    found = sorted(
        (int(label), image[:, :, 0].tobytes())
        for images, labels in (train, test)
        for label, image in zip(labels, images, strict=True)
    )
    assert found == expected
    assert all((images == images[:, :, :, :1]).all() for images, _ in (train, test))


def test_split_is_fixed(digits_dir):
    images, labels = decoded(digits_dir, "test")
    rows = sorted(
        bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)
    )
    assert hashlib.sha256(b"".join(rows)).hexdigest() == SHA256_OF_TEST_SPLIT


SHA256_OF_TEST_SPLIT = "e18b6c1ce78b65291af868030e2d3153896ef3749ecb566e41c1258e7eec0ab5"


def test_is_read_like_any_other_data_set(digits_dir):
    source = tfds.data_source("digits", split="train[:10%]", data_dir=digits_dir, download=False)
    assert len(source) == 144
    assert source.dataset_info.features["label"].names == list("0123456789")
    assert open_source("digits", "test", digits_dir).class_names == tuple("0123456789")


def test_is_read_by_its_own_folder_too(digits_dir):
    by_folder = open_source(f"{digits_dir}/digits/1.0.0", "test")
    by_name = open_source("digits", "test", digits_dir)
    assert by_folder.class_names == by_name.class_names
    assert [by_folder.examples[i]["image"] for i in range(360)] == [
        by_name.examples[i]["image"] for i in range(360)
    ]
    assert by_name.describe(3) == "example 3 of digits, test"


def test_a_format_without_random_access_says_how_to_convert(digits_dir, tmp_path):
    folder = tmp_path / "digits" / "1.0.0"
    shutil.copytree(f"{digits_dir}/digits/1.0.0", folder)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    for dataset in ("digits", str(folder)):
        with pytest.raises(ValueError, match="'.*' is not in a format with random.*from-tfrecord"):
            open_source(dataset, "test", str(tmp_path))


def test_preparing_and_reading_need_no_tensorflow(digits_dir):
    assert open_source("digits", "test", digits_dir).examples[0]
    assert "tensorflow" not in sys.modules


def test_second_preparation_leaves_the_files_alone(digits_dir, capsys):
    folder = prepare.prepare_digits(digits_dir)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert any("array_record" in path.name for path in before)
    assert prepare.main(["digits", "--data-dir", digits_dir]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert "1,437 train, 360 test images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("nonesuch", "train", "no data set 'nonesuch' is prepared.*shunted_jax.commands.prepare"),
        ("cifar10", "train", "no data set 'cifar10' is prepared as ArrayRecord"),
        ("digits", "validation", "Unknown split 'validation'.*'train', 'test'"),
    ],
)
def test_what_is_not_there_is_said(digits_dir, dataset, split, message):
    with pytest.raises(ValueError, match=message):
        open_source(dataset, split, digits_dir)
