"""The published recipe on the data that people have: ImageNet's archives, a folder tree, CIFAR."""

import logging
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.commands import prepare
from shunted_jax.commands.report import closing_report, write_pictures
from shunted_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    resolve,
)
from shunted_jax.data.recipe import make_eval_transform, make_train_transform
from shunted_jax.data.sources import open_source, open_split
from shunted_jax.errors import UserError
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run
from shunted_jax.training.scoring import Score, write_score
from tests.data import archives
from tests.data.images import encode, photograph, write_tree
from tests.training.test_bad_runs import stop_after

RECIPE = {
    "repeats": 3,
    "rand_augment_layers": 2,
    "erase_prob": 0.25,
    "mixup_alpha": 0.8,
    "cutmix_alpha": 1.0,
}


@pytest.fixture
def make_config(tiny_variant):
    """Returns a function that makes the configuration of a run with the whole recipe."""

    def make(*, epochs=1.0, augment=None, **data):
        return resolve(
            Config(
                model=ModelConfig(name=tiny_variant, drop_path_rate=0.1),
                data=DataConfig(**{"image_size": 32, "num_threads": 1} | data),
                augment=AugmentConfig(**RECIPE | (augment or {})),
                optimizer=OptimizerConfig(warmup_epochs=0.5),
                batch_size=8,
                eval_batch_size=8,
                epochs=epochs,
                log_every_steps=1,
            )
        )

    return make


def train(config, workdir):
    run = make_run(config)
    evaluation = train_and_evaluate(run, workdir)
    records = read_metrics(workdir / "metrics.jsonl")
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    assert len(losses) == run.total_steps
    assert np.isfinite(losses).all()
    return run, evaluation, records


@pytest.mark.proof
def test_imagenet_from_its_archives(make_config, tmp_path):
    source = archives.make_imagenet_archives(tmp_path / "tars", val=11)
    data_dir = str(tmp_path / "data")
    command = ["imagenet2012", "--source", str(source), "--data-dir", data_dir, "--partial"]
    assert prepare.main(command) == 0

    by_name = tfds.data_source("imagenet2012", split="train", data_dir=data_dir, download=False)
    assert len(by_name) == 12
    names = {example["file_name"].decode() for example in by_name}
    assert {archives.CMYK, archives.PNG} <= names

    config = make_config(
        dataset="imagenet2012",
        data_dir=data_dir,
        eval_split="validation",
        num_workers=1,
        augment={"crop": "random_resized"},
    )
    run, evaluation, _ = train(config, tmp_path / "run")
    assert run.total_steps == 2  # 12 images, batches of 8
    assert run.model.num_classes == 1000
    numbers = [run.eval_source.examples[i]["file_name"].decode() for i in range(11)]
    expected = [archives.validation_synsets()[int(name[15:23]) - 1] for name in numbers]
    assert [archives.synsets()[label] for label in evaluation.scores.labels] == expected
    assert evaluation.scores.metrics["top1"].count == 11


# A folder's name need not be UTF-8, and may look like a formula.
CAFE, COIN = os.fsdecode(b"caf\xe9"), "coin_$^2"


def test_a_folder_tree_with_damaged_files(make_config, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="shunted_jax")
    tree = write_tree(
        tmp_path / "tree", {"train": {CAFE: 6, "cat": 5, COIN: 4}, "val": {CAFE: 5, COIN: 5}}
    )
    whole = encode(photograph(40, 40))
    for file in ("train/cat/torn.jpg", f"val/{COIN}/torn.jpg"):
        (tmp_path / "tree" / file).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tree/train/cat/wide.png").write_bytes(encode(photograph(8, 90), "png", "P"))

    (tmp_path / "tree" / "train" / CAFE / "folder.jpg").mkdir()

    config = make_config(
        dataset=tree, eval_split="val", on_bad_image="skip", epochs=4.0, augment={"repeats": 1}
    )
    run, evaluation, records = train(config, tmp_path / "run")
    assert len(run.train_source) == 18
    assert len(run.eval_source) == 11
    assert records[-1]["data/bad_images"] in range(6, 9)  # three epochs are whole, the last is not
    assert evaluation.scores.metrics["top1"].count == 10
    torn = next(
        i for i in range(11) if run.eval_source.examples[i]["file_name"] == f"val/{COIN}/torn.jpg"
    )
    assert sorted({*range(11)} - {torn}) == evaluation.scores.indices.tolist()
    labels = [run.eval_source.examples[i]["label"] for i in evaluation.scores.indices]
    np.testing.assert_array_equal(evaluation.scores.labels, labels)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "train/cat/torn.jpg" in said
    assert r"train/caf\xe9/folder.jpg" in said
    assert f"val/{COIN}/torn.jpg" in said
    with RunCheckpoints(tmp_path / "run" / "checkpoints", keep=1) as checkpoints:
        meta = checkpoints.restore_meta(checkpoints.latest_step)
    assert meta.class_names == [CAFE, "cat", COIN]

    write_score(Score({}, evaluation, run.eval_source.class_names), tmp_path / "run")
    lines = (tmp_path / "run" / "per_class.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["0", r"caf\xe9", "5"],
        ["1", "cat", "0"],
        ["2", COIN, "5"],
    ]
    caplog.clear()
    write_pictures(run, evaluation, tmp_path / "run")
    assert not caplog.records
    for picture in ("curves.png", "predictions.png"):
        assert (tmp_path / "run" / picture).read_bytes().startswith(b"\x89PNG")

    # The images are gone when they are to be drawn: the run is done all the same.
    (tmp_path / "run" / "predictions.png").unlink()
    (tmp_path / "tree" / "val").rename(tmp_path / "elsewhere")
    write_pictures(run, evaluation, tmp_path / "run")
    (record,) = caplog.records
    assert "predictions.png is not drawn: RunError: " in record.getMessage()
    report = closing_report(run, evaluation, tmp_path / "run", ["train.py"])
    assert "curves.png" in report
    assert "predictions.png" not in report


@pytest.mark.proof
def test_replaced_images_are_counted_over_an_interruption(make_config, tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "tree", {"train": {"cat": 6, "dog": 6}, "val": {"dog": 3}})
    for number in range(4):
        (tmp_path / "tree" / "train" / "cat" / f"{number}.jpg").write_bytes(b"torn")
    config = make_config(
        dataset=tree, eval_split="val", on_bad_image="skip", epochs=6.0, augment={"repeats": 1}
    )

    def counts(workdir):
        records = read_metrics(workdir / "metrics.jsonl")
        return {r["step"]: r["data/bad_images"] for r in records if "data/bad_images" in r}

    run = make_run(config)
    train_and_evaluate(run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(run, tmp_path / "parts")
    train_and_evaluate(run, tmp_path / "parts")
    whole = counts(tmp_path / "whole")
    assert counts(tmp_path / "parts") == whole
    assert list(whole) == [2, 4, 6, 8, 9]
    assert whole[9] == 6 * 4  # each epoch meets all of them
    assert 4 <= whole[2] < whole[4] < whole[9]


def prepare_cifar(data_dir):
    official = tfds.builder_cls("cifar100")

    class Builder(official, skip_registration=True):
        name = "cifar100"
        pkg_dir_path = official.pkg_dir_path

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(24), "test": self._generate_examples(9)}

        def _generate_examples(self, count):
            for i in range(count):
                image = encode(photograph(32, 32, i), "png")
                yield i, {"id": f"{i}", "image": image, "label": i, "coarse_label": i % 20}

    Builder(data_dir=data_dir, file_format="array_record").download_and_prepare()


@pytest.mark.proof
def test_cifar_gets_the_small_image_recipe(make_config, tmp_path):
    prepare_cifar(tmp_path)
    config = make_config(dataset="cifar100", data_dir=str(tmp_path))
    run, evaluation, _ = train(config, tmp_path / "run")
    crop = make_train_transform(config).crop
    assert type(crop).__name__ == "PaddedCrop"
    assert crop.padding == 4
    assert run.model.num_classes == 100
    assert evaluation.scores.metrics["top1"].count == 9
    example = run.eval_source.examples[0]
    image = make_eval_transform(config)(example["image"])
    np.testing.assert_array_equal(image, photograph(32, 32, int(example["id"])))


def test_splits_of_different_classes_are_refused(make_config, tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "tree", {"train": {"cat": 2}, "val": {"cat": 2}})
    other = open_source(write_tree(tmp_path / "other", {"val": {"cat": 1, "cow": 1}}), "val")
    monkeypatch.setattr(
        "shunted_jax.training.run.open_split",
        lambda data, field: open_split(data, field) if field == "train_split" else other,
    )
    with pytest.raises(UserError, match=r"has 1 classes and .*other, val 2.* cow"):
        make_run(make_config(dataset=tree, eval_split="val"))
