"""Going on from what lies in a run's folder: damaged checkpoints, other settings, other meshes."""

import dataclasses
import errno
import json
import logging
import shutil

import jax
import numpy as np
import pytest
from etils import epath

from shunted_jax.checkpoints import FORMAT_VERSION, RunCheckpoints, damage
from shunted_jax.config import Config, MeshConfig, resolve, to_dict
from shunted_jax.errors import RunError, UserError
from shunted_jax.models import registry
from shunted_jax.models.architecture import architecture_of
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.training.devices import sharding
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.recovery.digest import digest
from shunted_jax.training.recovery.provenance import describe
from shunted_jax.training.recovery.resume import (
    IGNORED,
    MAY_CHANGE,
    WHERE_FILES_LIE,
    restore_newest,
)
from shunted_jax.training.run import make_run
from tests.support.tiny import tiny_config


@pytest.fixture
def make(digits_dir, tiny_variant, monkeypatch):
    """Returns a function that makes a run, whose arrays `fsdp` splits though they are small."""
    monkeypatch.setattr(sharding, "_MIN_SIZE_TO_SPLIT", 64)

    def make_one(model=None, **changes):
        settings = {"epochs": 2.0, "log_every_steps": 1, "keep_checkpoints": 3} | changes
        return make_run(
            resolve(
                tiny_config(
                    digits_dir,
                    model={"name": tiny_variant, "drop_path_rate": 0.0} | (model or {}),
                    augment={"crop_padding": 4, "flip_prob": 0.5},
                    optimizer={"learning_rate": 1e-4},
                    **settings,
                )
            )
        )

    return make_one


def random_state(run, step):
    """Returns a state that took no compiling."""
    numbers = np.random.default_rng(step)

    def leaf(abstract):
        values = np.asarray(numbers.normal(size=abstract.shape) * 9).astype(abstract.dtype)
        return jax.device_put(values, abstract.sharding)

    return jax.tree.map(leaf, run.programs.abstract_state)


@pytest.fixture
def saved(make, tmp_path):
    """Returns a run and its folder, with checkpoints of steps 1, 2 and 3."""
    run = make()
    with RunCheckpoints(tmp_path / "checkpoints", keep=3) as checkpoints:
        for step in (1, 2, 3):
            state = random_state(run, step)
            metrics = {"eval/top1": step / 10}
            meta = describe(run, step, digest=digest(state).sums, metrics=metrics)
            checkpoints.save(state, meta)
    return run, tmp_path


def resume(run, workdir):
    with RunCheckpoints(workdir / "checkpoints", keep=3) as checkpoints:
        return restore_newest(run, checkpoints, workdir)


def number_files(folder):
    """Returns the files that hold arrays, as opposed to what is said about them."""
    # Orbax writes some twice, and reads one of them.
    return [path for path in folder.rglob("d/*") if path.is_file()]


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(bytes(raw))


def change_configuration(folder):
    path = folder / "meta" / "metadata"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))


DAMAGE = {
    "an item is missing": lambda folder: shutil.rmtree(folder / "batch_stats"),
    "the optimizer is missing": lambda folder: shutil.rmtree(folder / "train"),
    "the metadata are missing": lambda folder: shutil.rmtree(folder / "meta"),
    "the metadata are cut off": lambda folder: (folder / "meta" / "metadata").write_text('{"mod'),
    "the metadata are changed": change_configuration,
    "the arrays are cut off": lambda folder: [
        path.write_bytes(path.read_bytes()[:99]) for path in number_files(folder / "params")
    ],
    "the arrays' files are empty": lambda folder: [
        path.write_bytes(b"") for path in number_files(folder / "train")
    ],
    "a bit of the arrays flipped": lambda folder: [
        flip(path) for path in number_files(folder / "params")
    ],
    "the array's index is damaged": lambda folder: flip(folder / "params" / "manifest.ocdbt"),
    "the folder is empty": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_newest_is_named_and_the_one_before_taken(saved, kind, caplog):
    run, workdir = saved
    folder = workdir / "checkpoints"
    DAMAGE[kind](folder / "3")
    resumed = resume(run, workdir)
    assert resumed.step == 2
    jax.tree.map(np.testing.assert_array_equal, resumed.state, random_state(run, 2))
    assert "the checkpoint of step 3 cannot be read: " in caplog.text
    assert "moved to damaged-3" in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "damaged-3"]
    # The step can be saved again.
    with RunCheckpoints(folder, keep=2) as checkpoints:
        checkpoints.save(resumed.state, describe(run, 3, digest=digest(resumed.state).sums))
    assert resume(run, workdir).step == 3


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        MemoryError("no room"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
        ValueError("UNAVAILABLE: Error opening the driver: 503"),
    ],
)
@pytest.mark.parametrize("times", [2, 9])
def test_what_may_pass_moves_nothing(saved, error, times, monkeypatch):
    run, workdir = saved
    restore, waited, left = RunCheckpoints.restore, [], [error] * times

    def restore_at_last(checkpoints, step, state):
        if left:
            raise left.pop()
        return restore(checkpoints, step, state)

    monkeypatch.setattr(RunCheckpoints, "restore", restore_at_last)
    monkeypatch.setattr(damage.time, "sleep", waited.append)
    if times == 2:
        assert resume(run, workdir).step == 3
    else:
        with pytest.raises(RunError, match=r"checkpoints/3 cannot be read: .* start again once"):
            resume(run, workdir)
    assert waited == list(damage.WAITS[:times])
    names = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert names == ["1", "2", "3"]


def test_metadata_that_cannot_be_read_move_nothing(saved, monkeypatch):
    run, workdir = saved
    kind = type(epath.Path(workdir))
    read = kind.read_text

    def read_text(path, *arguments, **named):
        if "3/meta" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path, *arguments, **named)

    with RunCheckpoints(workdir / "checkpoints", keep=3) as checkpoints:
        monkeypatch.setattr(kind, "read_text", read_text)
        monkeypatch.setattr(damage.time, "sleep", lambda seconds: None)
        with pytest.raises(RunError, match="checkpoints/3 cannot be read: PermissionError"):
            restore_newest(run, checkpoints, workdir)
    assert (workdir / "checkpoints" / "3").is_dir()


def test_folder_that_only_looks_like_a_checkpoint_is_passed_over(saved, caplog):
    run, workdir = saved
    (workdir / "checkpoints" / "10").mkdir()
    assert resume(run, workdir).step == 3
    assert "the checkpoint of step 10 cannot be read" in caplog.text


def test_nothing_starts_over_where_no_checkpoint_can_be_read(saved):
    run, workdir = saved
    for step in (1, 2, 3):
        shutil.rmtree(workdir / "checkpoints" / str(step) / "params")
    with pytest.raises(UserError, match=r"put back a copy.*\n  step 3: .*\n  step 2: .*\n  step 1"):
        resume(run, workdir)
    names = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    assert names == ["1", "2", "3"]


def test_first_save_that_was_broken_off_starts_over(make, tmp_path):
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
    assert resume(make(), tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed": 5}, "config.seed: 0 before, 5 now"),
        ({"epochs": 3.0}, "config.epochs: 2.0 before, 3.0 now"),
        ({"batch_size": 32}, "config.batch_size: 16 before, 32 now"),
        ({"label_smoothing": 0.2}, "config.label_smoothing: 0.1 before, 0.2 now"),
        (
            {"data": {"train_split": "train[:80]"}},
            r"config.data.train_split: 'train\[:64\]' before",
        ),
        ({"model": {"drop_rate": 0.5}}, "config.model.drop_rate: 0.0 before, 0.5 now"),
    ],
)
def test_what_changes_the_result_is_refused(saved, make, changes, line):
    _, workdir = saved
    with pytest.raises(UserError, match=rf"another --workdir.*\n  {line}"):
        resume(make(**changes), workdir)
    assert not list((workdir / "checkpoints").glob("damaged*"))


def test_network_that_changed_below_its_name_is_refused(saved, make, monkeypatch):
    _, workdir = saved
    row = registry.VARIANTS["tiny"] | {"embed_dims": (8, 24)}
    monkeypatch.setitem(registry.VARIANTS, "tiny", row)
    with pytest.raises(UserError, match=r"model.embed_dims: \(8, 16\) before, \(8, 24\) now"):
        resume(make(), workdir)


def test_other_data_of_the_same_name_is_refused(saved, make):
    _, workdir = saved
    run = make()
    fewer = dataclasses.replace(run.train_source, examples=range(60))
    with pytest.raises(UserError, match=r"data.examples: 64 before, 60 now"):
        resume(dataclasses.replace(run, train_source=fewer), workdir)


def test_checkpoints_of_an_earlier_version_are_refused(saved, make, monkeypatch):
    _, workdir = saved
    restore_meta = RunCheckpoints.restore_meta

    def without_position(checkpoints, step):
        meta = restore_meta(checkpoints, step)
        record = dataclasses.replace(meta.run, data=None, digest=None)
        return dataclasses.replace(meta, run=record)

    monkeypatch.setattr(RunCheckpoints, "restore_meta", without_position)
    with pytest.raises(UserError, match=rf"earlier version.*--config.init_from={workdir}"):
        resume(make(), workdir)


def test_what_does_not_is_taken_over_and_said(saved, make, caplog):
    caplog.set_level(logging.INFO, logger="shunted_jax")
    _, workdir = saved
    changes = {
        "data": {"num_workers": 2, "num_threads": 3, "on_bad_image": "skip"},
        "mesh": MeshConfig(data=2, fsdp=4),
        "eval_batch_size": 8,
        "log_every_steps": 7,
        "eval_every_epochs": 2.0,
        "save_every_steps": 5,
        "keep_checkpoints": 1,
        "keep_every_epochs": 2.0,
        "max_bad_steps": 3,
    }
    run = make(**changes)
    resumed = resume(run, workdir)
    assert "taken over: config.mesh.fsdp: 1 before, 4 now" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, resumed.state, random_state(run, 3))
    kernels = [leaf for leaf in jax.tree.leaves(resumed.state.params) if leaf.ndim == 4]
    assert any("fsdp" in leaf.sharding.spec for leaf in kernels)


def test_no_field_is_ignored_and_may_change():
    assert not set(IGNORED) & MAY_CHANGE.keys()


def test_table_of_what_may_change_names_fields_that_exist():
    for name in (*MAY_CHANGE, *WHERE_FILES_LIE):
        section = Config()
        *sections, field = name.split(".")[1:]
        for part in sections:
            section = getattr(section, part)
        assert field in vars(section), name


def test_checkpoint_says_where_it_comes_from(saved):
    run, workdir = saved
    meta = json.loads((workdir / "checkpoints" / "3" / "meta" / "metadata").read_text())
    assert meta["format_version"] == FORMAT_VERSION == 2
    assert meta["model"] == architecture_of(run.model)
    record = meta["run"]
    assert record["step"] == 3
    assert record["best_by"] == "eval/top1"
    assert record["data"] == {
        "next_batch": 3,
        "seed": 0,
        "batch_size": 16,
        "examples": 64,
        "pipeline_version": 1,
        "files": run.train_source.files.to_json(),
    }
    assert record["config"] == to_dict(run.config)
    assert record["versions"]["jax"] == jax.__version__
    assert record["git"] is None or set(record["git"]) == {"commit", "dirty"}


@pytest.mark.proof
def test_run_goes_on_on_another_mesh(make, tmp_path, caplog):
    """8 x 1 devices for an epoch, then 2 x 4, with other workers: the losses of one mesh."""
    caplog.set_level(logging.INFO, logger="shunted_jax")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_and_evaluate(make(), whole)
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "8")
    train_and_evaluate(make(data={"num_workers": 1}, mesh=MeshConfig(data=2, fsdp=4)), parts)

    def losses(workdir):
        records = read_metrics(workdir / "metrics.jsonl")
        return [(r["step"], r["train/loss"]) for r in records if "train/loss" in r]

    np.testing.assert_allclose(losses(parts), losses(whole), rtol=1e-4)
    assert losses(parts)[:4] == losses(whole)[:4]
    assert "going on from step 4" in caplog.text
    assert "taken over: config.mesh.fsdp: 1 before, 4 now" in caplog.text
