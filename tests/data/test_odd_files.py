"""What lies in people's folders: odd names, links, and files of cameras, phones and the web."""

import io
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from shunted_jax.data.decoding import BadImageError, EncodedImage
from shunted_jax.data.sources import open_source
from tests.data.images import encode, photograph, with_pillow, write_tree

PHOTOGRAPH = photograph(40, 56)
JPEG = encode(PHOTOGRAPH)


def of_frames(kind, **options):
    buffer = io.BytesIO()
    first, *rest = (Image.fromarray(photograph(40, 56, seed)) for seed in range(3))
    first.save(buffer, format=kind, save_all=True, append_images=rest, **options)
    return buffer.getvalue()


FILES = {
    "MPO, a picture for each eye": of_frames("mpo"),
    "motion photo": JPEG + b"\0\0\0\x18ftypmp42" + bytes(5000),
    "animated GIF": of_frames("gif"),
    "animated PNG": of_frames("png"),
    "animated WebP": of_frames("webp", lossless=True),
    "pages of a TIFF": of_frames("tiff"),
    "AVIF": encode(PHOTOGRAPH, "avif"),
    "JPEG 2000": encode(PHOTOGRAPH, "jpeg2000"),
    "grey with transparency": encode(PHOTOGRAPH, "png", mode="LA"),
    "BMP of 32 bits": encode(PHOTOGRAPH, "bmp", mode="RGBA"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_first_picture_counts_as_pillow_reads_it(name):
    pixels = EncodedImage(FILES[name]).decode()
    assert pixels.shape == PHOTOGRAPH.shape
    np.testing.assert_array_equal(pixels, with_pillow(FILES[name]))


@pytest.mark.parametrize(
    "encoded",
    [
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),  # what iPhones write
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        b"<!DOCTYPE html><title>404</title>",
    ],
)
def test_what_is_no_picture_is_refused(encoded):
    with pytest.raises(BadImageError, match="not an image file of any kind"):
        EncodedImage(encoded)


NAMES = (
    *("-rf.jpg", " lead.jpg", "trail .JPG", "two\nlines.jpg", "tab\t.jpeg", "per%20cent.jpg"),
    *("a#b?.jpg", "[1].jpg", "*.jpg", "~.jpg", "q'\".jpg", "é.jpg", "x" * 240 + ".jpg"),
)


def test_names_are_taken_as_they_are(tmp_path):
    folder = tmp_path / "tree" / "train" / "one"
    folder.mkdir(parents=True)
    for name in (*NAMES, "._apple.jpg", ".DS_Store"):  # the last two: of macOS, no images
        (folder / name).write_bytes(JPEG)
    (folder / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(JPEG)
    (tmp_path / "tree" / "train" / "two").symlink_to("one")  # folders and splits may be links
    (tmp_path / "tree" / "val").symlink_to("train")
    (tmp_path / "tree" / "train" / "around").symlink_to("around")
    for split in ("train", "val"):
        source = open_source(str(tmp_path / "tree"), split)
        assert source.class_names == ("one", "two")
        examples = list(source.examples)
        names = {os.path.basename(example["file_name"]) for example in examples}
        assert names == {*NAMES, os.fsdecode(b"\xff\xfe.jpg")}
        assert len(examples) == 2 * len(names)
        assert {example["image"] for example in examples} == {JPEG}


def test_classes_are_in_the_order_of_their_names_as_text(tmp_path):
    # As of ImageFolder (vision#714), and each split's by train's numbers (ultralytics#13936).
    names = ("1", "10", "100", "2", "false", "nan", "null", "true")
    tree = write_tree(tmp_path, {"train": dict.fromkeys(names, 1), "val": {"2": 1, "true": 1}})
    source = open_source(tree, "val")
    assert source.class_names == names
    found = {example["file_name"]: example["label"] for example in source.examples}
    assert found == {"val/2/0.jpg": 3, "val/true/0.jpg": 7}


def test_an_accent_is_the_same_however_it_is_written(tmp_path):
    # Of a tree that was half copied from macOS (paperbanana#234).
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    tree = write_tree(
        tmp_path, {"train": {decomposed: 2, "tea": 1}, "val": {composed: 1, "tea": 1}}
    )
    for split, labels in (("train", [0, 0, 1]), ("val", [0, 1])):
        source = open_source(tree, split)
        assert source.class_names == (composed, "tea")
        assert sorted(example["label"] for example in source.examples) == labels
