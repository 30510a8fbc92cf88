"""The digits are scikit-learn's, all of them, split the same way every time."""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from shunted_jax.commands import prepare
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.sources import open_source
from shunted_jax.errors import UserError


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
        with pytest.raises(UserError, match=f"random.*from-tfrecord --source {folder} --data-dir"):
            open_source(dataset, "test", str(tmp_path))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("rm 1.0.0/dataset_info.json", "is prepared as .* in FOLDER, where there is 1.0.0 .unfini"),
        ("mv 1.0.0 1.0.0.incomplete", "where there is 1.0.0.incomplete.*prepare it first"),
        (
            "mv 1.0.0 0.9.0",
            "where there is 0.9.0: prepare it .*prepare digits --data-dir FOLDER",
        ),
        ("rm 1.0.0/digits-test*", "'digits.*' lacks 1 of its 1 files, such as .*/digits-test"),
        (
            "truncate -s 99999 1.0.0/digits-test*",
            "in FOLDER/digits/1.0.0 cannot be read: Corrupted",
        ),
        ("truncate -s 9 1.0.0/digits-test*", "in FOLDER/digits/1.0.0 cannot be read: ArrayRecord"),
    ],
)
def test_half_a_data_set_is_no_data_set(digits_dir, tmp_path, damage, said):
    shutil.copytree(f"{digits_dir}/digits", tmp_path / "digits")
    subprocess.run(damage, shell=True, cwd=tmp_path / "digits", check=True)
    said = said.replace("FOLDER", str(tmp_path))
    dataset = "digits:1.0.0" if "0.9.0" in damage else "digits"
    with pytest.raises(UserError, match=said):
        open_source(dataset, "test", str(tmp_path))


def test_nothing_prepared_says_the_command(tmp_path, monkeypatch):
    # tensorflow-datasets knows what it could prepare, and has no splits of it (tfds#2748, #2488).
    monkeypatch.setenv("HOME", str(tmp_path))
    prepare = "python -m shunted_jax.commands.prepare"
    for dataset, command in (
        ("imagenet2012", f"{prepare} imagenet2012 --source FOLDER_OF_ITS_ARCHIVES --data-dir data"),
        ("imagenet2012:5.1.0", f"{prepare} imagenet2012 --source"),
        ("digits", f"{prepare} digits --data-dir data"),
        ("cifar10", f"{prepare} --help"),
    ):
        with pytest.raises(UserError, match=f"in ~/tensorflow_datasets: prepare it .*{command}"):
            open_source(dataset, "train")


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
        # No data set can be called so, but folders are.
        ("my-pets 2", "train", "no data set 'my-pets 2' is .*: --config.data.*='./my-pets 2'$"),
        ("digits", "validation", "no split 'validation'; it has 'train', 'test'"),
        ("digits", "train[:1438]", "cannot give the split 'train.*1437 examples"),
        ("digits", "all[:5]", "cannot give the split 'all.*not support slice"),
    ],
)
def test_what_is_not_there_is_said(digits_dir, dataset, split, message):
    with pytest.raises(ValueError, match=message):
        open_source(dataset, split, digits_dir)
