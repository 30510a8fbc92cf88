"""A run goes on with its files wherever they lie, and not with others in their place."""

import logging
import pickle
import shutil

import numpy as np
import pytest

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.config import resolve
from shunted_jax.data.sources import open_source
from shunted_jax.errors import UserError
from shunted_jax.models import registry
from shunted_jax.training.recovery.data_files import LIST, write_list
from shunted_jax.training.recovery.digest import digest
from shunted_jax.training.recovery.provenance import describe
from shunted_jax.training.run import make_run
from tests.data.test_trees import touch
from tests.support.tiny import ONE_STAGE, tiny_config
from tests.training.recovery.test_resume import random_state, resume

FOLDERS = ("train/a", "train/b", "test/a", "test/b")
FILES = [f"{folder}/{number}.jpg" for folder in FOLDERS for number in range(8)]


def make(dataset, data_dir=None, **data):
    """Returns a run on a data set; nothing of it is decoded."""
    settings = {"dataset": str(dataset), "train_split": "train", "eval_split": "test"} | data
    return make_run(resolve(tiny_config(data_dir, model={"name": "one_stage"}, data=settings)))


def save(run, workdir):
    """Saves what the run's first step would leave."""
    write_list(run.train_source, workdir)
    state = random_state(run, 1)
    with RunCheckpoints(workdir / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(state, describe(run, 1, digest=digest(state).sums))


@pytest.fixture(autouse=True, scope="module")
def network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.VARIANTS, "one_stage", ONE_STAGE)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Returns a folder whose `here` a run began with; `run` is that run's."""
    data = tmp_path_factory.mktemp("data")
    (data / "run").mkdir()
    save(make(touch(data / "here", *FILES)), data / "run")
    return data


@pytest.fixture
def began(data, tmp_path):
    """Returns a copy of the run's folder; `here` is as it was, and `there` is free."""
    for name in ("here", "there"):
        shutil.rmtree(data / name, ignore_errors=True)
    touch(data / "here", *FILES)
    shutil.copytree(data / "run", tmp_path / "run")
    return tmp_path / "run"


def test_moved_files_are_the_same(began, data, caplog):
    caplog.set_level(logging.INFO, logger="shunted_jax")
    shutil.move(data / "here", data / "there")
    assert resume(make(data / "there"), began).step == 1
    assert f"taken over: config.data.dataset: '{data}/here' before, " in caplog.text
    assert "not the very files" not in caplog.text


CHANGES = {
    "1 are new, 1 are gone": lambda folder: (folder / "train/a/3.jpg").rename(
        folder / "train/a/99.jpg"
    ),
    "1 are new, 2 have another size": lambda folder: (
        touch(folder, "train/b/8.jpg")
        and [(folder / f"train/{name}/1.jpg").write_bytes(b"") for name in "ab"]
    ),
    "2 are gone": lambda folder: [(folder / f"train/{name}/5.jpg").unlink() for name in "ab"],
}


@pytest.mark.parametrize("words", CHANGES)
def test_other_files_are_refused_in_their_place_and_elsewhere(began, data, words):
    CHANGES[words](data / "here")
    with pytest.raises(UserError, match=rf"\n  data.files: of 16 files, {words}$"):
        resume(make(data / "here"), began)
    shutil.move(data / "here", data / "there")
    with pytest.raises(UserError, match=rf"\n  config.data.dataset: .*\n  data.files: .*{words}$"):
        resume(make(data / "there"), began)
    # Without the list, it is still known that they are others.
    (began / LIST).unlink()
    with pytest.raises(UserError, match="data.files: they are not those that it began with$"):
        resume(make(data / "there"), began)


def test_mended_files_are_named_and_taken(began, data, caplog):
    # The remedy for an image that cannot be decoded.
    (data / "here/train/a/0.jpg").write_bytes(b"mended")
    assert resume(make(data / "here"), began).step == 1
    assert "run began with: of 16 files, 1 have another size" in caplog.text
    shutil.move(data / "here", data / "there")
    with pytest.raises(UserError, match="data.files: of 16 files, 1 have another size$"):
        resume(make(data / "there"), began)


def test_a_table_may_move_with_its_images(tmp_path):
    touch(tmp_path / "images", *FILES)
    rows = [f"{name},{name.split('/')[1]},{name.split('/')[0]}" for name in FILES]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["image,label,split", *rows]))
    save(make(table, image_dir=str(tmp_path / "images")), tmp_path)
    (tmp_path / "there").mkdir()
    for name in ("labels.csv", "images"):
        shutil.move(tmp_path / name, tmp_path / "there")
    run = make(tmp_path / "there/labels.csv", image_dir=str(tmp_path / "there/images"))
    assert resume(run, tmp_path).step == 1
    # Labels are part of it.
    rows[0], rows[8] = FILES[0] + ",b,train", FILES[8] + ",a,train"
    (tmp_path / "there/labels.csv").write_text("\n".join(["image,label,split", *rows]))
    run = make(tmp_path / "there/labels.csv", image_dir=str(tmp_path / "there/images"))
    with pytest.raises(UserError, match="of 16 files, some have another place or label$"):
        resume(run, tmp_path)


def test_a_prepared_data_set_is_known_by_its_folder_too(tmp_path, digits_dir):
    save(make("digits", digits_dir), tmp_path)
    shutil.copytree(f"{digits_dir}/digits", tmp_path / "copy")
    assert resume(make(f"{tmp_path}/copy/1.0.0"), tmp_path).step == 1


def test_runs_without_a_fingerprint_go_on_as_before(began, data, monkeypatch):
    restore_meta = RunCheckpoints.restore_meta

    def without_files(checkpoints, step):
        meta = restore_meta(checkpoints, step)
        del meta.run.data["files"]
        return meta

    monkeypatch.setattr(RunCheckpoints, "restore_meta", without_files)
    assert resume(make(data / "here"), began).step == 1
    shutil.copytree(data / "here", data / "there")
    with pytest.raises(UserError, match="config.data.dataset: .*/here' before, .*/there' now$"):
        resume(make(data / "there"), began)


def test_images_that_are_in_both_splits_are_counted(data, began, caplog):
    make(data / "here", train_split="train+test[:3]")
    assert "3 of the examples of" in caplog.text
    assert "are in" in caplog.text
    caplog.clear()
    make(data / "here", train_split="train[:75%]", eval_split="train[75%:]")
    assert not caplog.text


def test_workers_are_not_sent_the_list(tmp_path):
    files = open_source(str(touch(tmp_path, *FILES)), "train").files
    assert files.keys.dtype == np.uint64
    assert len(files.keys) == len(files.lengths) == 16
    sent = pickle.loads(pickle.dumps(files))
    assert sent == files
    assert not len(sent.keys)
    assert not len(sent.lengths)
