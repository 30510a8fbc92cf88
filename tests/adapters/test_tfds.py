"""What tensorflow-datasets would write; tests/data/test_imagenet.py compares whole data sets."""

import socket

import pytest

from shunted_jax.adapters import tfds
from shunted_jax.commands.prepare import prepare_digits
from tests.adapters.contract import seen_with

VERSION = "4.9.10"


@seen_with("tensorflow-datasets", VERSION, "files had examples in the order of this hash")
def test_examples_have_the_same_place():
    assert list(tfds.sort_keys("train", [b"n01440764_10026.JPEG", b"b"])) == [
        162033312169097000016425838868638507734,
        75383610018999358734423134199282422599,
    ]


@seen_with("tensorflow-datasets", VERSION, "shards were divided so")
def test_shards_end_at_the_same_examples():
    assert tfds.shard_ends(3 * 10**9, 10) == (1, 2, 4, 5, 6, 8, 9, 10)


@seen_with("tensorflow-datasets", VERSION, "a record was this message")
def test_records_have_the_same_bytes():
    features = tfds.ImageNet(data_dir="nowhere").info.features
    example = {"image": b"\xff\xd8x", "label": 3, "file_name": "a.JPEG"}
    assert tfds.record_maker(features)(example) == (
        b"\n;"
        b"\n\x17\n\tfile_name\x12\n\n\x08\n\x06a.JPEG"
        b"\n\x10\n\x05image\x12\x07\n\x05\n\x03\xff\xd8x"
        b"\n\x0e\n\x05label\x12\x05\x1a\x03\n\x01\x03"
    )
    assert len(tfds.RECODED_IMAGES) == 23
    assert tfds.imagenet_synsets() == tuple(features["label"].names)


@seen_with("tensorflow-datasets", VERSION, "preparing a data set asked nobody on the network")
def test_preparing_asks_nobody(monkeypatch, tmp_path):
    def refuse(*asked):
        pytest.fail(f"asks {asked}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert (prepare_digits(tmp_path) / "dataset_info.json").exists()
