"""Data sets that somebody else prepared, as tensorflow-datasets leaves them, and parts of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shunted_jax.data.loading import LoadForTraining
from shunted_jax.data.recipe import make_train_transform
from shunted_jax.data.sources import Source, open_source
from shunted_jax.errors import UserError
from tests.support.tiny import tiny_config


@pytest.fixture
def own(digits_dir, tmp_path):
    """Returns the folder of a data set that no builder here knows by its name."""
    folder = tmp_path / "mine" / "1.0.0"
    shutil.copytree(Path(digits_dir) / "digits" / "1.0.0", folder)
    for path in folder.glob("digits-*"):
        path.rename(path.with_name(path.name.replace("digits", "mine")))
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("digits", "mine"))
    return folder


def test_its_own_folder_and_its_name_open_it(own):
    # datasets#5665: by name it was not found.
    for dataset, data_dir in ((str(own), None), ("mine", str(own.parent.parent))):
        source = open_source(dataset, "train", data_dir)
        assert len(source) == 1437
        assert source.class_names == tuple("0123456789")


def test_labels_have_to_be_classes(own):
    features = json.loads((own / "features.json").read_text())
    number = {"shape": {}, "dtype": "int64", "encoding": "none"}
    features["featuresDict"]["features"]["label"] = {
        "pythonClassName": "tensorflow_datasets.core.features.scalar.Scalar",
        "tensor": number,
    }
    (own / "features.json").write_text(json.dumps(features))
    with pytest.raises(UserError, match="training wants an 'image' and a 'label' of classes"):
        open_source(str(own), "train")


def test_a_file_that_is_cut_off_later_is_told():
    # As ArrayRecord's reader says it of a shard that the first look did not reach.
    class CutOff(list):
        def __getitem__(self, index):
            raise RuntimeError("Invalid Riegeli/records file")

    source = Source(CutOff([None] * 5), ("0", "1"), "mine, train")
    load = LoadForTraining(source, make_train_transform(tiny_config(None)))
    told = r"example 3 of mine, train cannot be read \(RuntimeError: Invalid .*copy it again"
    with pytest.raises(UserError, match=told):
        load(3, np.random.default_rng(0))
