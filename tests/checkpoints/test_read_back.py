"""A save that goes wrong in silence is found at once: a run's first one, and each conversion."""

import os

import jax
import numpy as np
import pytest

from shunted_jax.adapters.etils import Folder
from shunted_jax.checkpoints import (
    Metadata,
    RunCheckpoints,
    Weights,
    read_weights,
    run_checkpoints,
    write_weights,
)
from shunted_jax.errors import RunError
from tests.checkpoints.test_run_checkpoints import abstract, make_meta, make_state


@pytest.fixture
def lost(monkeypatch):
    """Has Orbax find no parts of a checkpoint, as it did where a glob misread the folder's name."""
    monkeypatch.setattr(Folder, "glob", lambda folder, pattern: iter(()))


@pytest.mark.usefixtures("lost")
def test_a_first_save_that_cannot_be_read_ends_the_run(tmp_path):
    with (
        RunCheckpoints(tmp_path / "c", keep=1) as checkpoints,
        pytest.raises(RunError, match=r"c/1 was just saved, and cannot be read back: .*NOT_FOUND"),
    ):
        checkpoints.save(make_state(1), make_meta(1))


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize("before", [None, "what was there"])
def test_a_conversion_that_cannot_be_read_leaves_what_was_there(before, tmp_path):
    weights = Weights({"a": np.ones(3)}, {"b": np.ones(3)}, Metadata({}))
    if before:
        for item in ("params", "batch_stats", "meta"):
            (tmp_path / "out" / item / before).mkdir(parents=True)
    with pytest.raises(RunError, match=r"was just saved, and cannot be read back: .*NOT_FOUND"):
        write_weights(tmp_path / "out", weights, overwrite=True)
    assert os.listdir(tmp_path) == (["out"] if before else [])
    assert len(list(tmp_path.glob(f"out/*/{before}"))) == (3 if before else 0)


@pytest.mark.parametrize("name", ["run[1]", "a*b?", "new\nline é #1%"])
def test_a_name_is_taken_as_it_stands(name, tmp_path):
    (tmp_path / "a-b1" / "run1").mkdir(parents=True)  # which the names match as patterns
    folder = tmp_path / name / "r[x-y]"
    with RunCheckpoints(folder / "checkpoints", keep=1) as checkpoints:
        for step in (1, 2):
            checkpoints.save(make_state(step), make_meta(step))
    with RunCheckpoints(folder / "checkpoints", keep=1) as checkpoints:
        assert checkpoints.restore(2, abstract(make_state(2))).step == 2
    run = read_weights(folder)
    assert run.step == 2
    write_weights(folder / "lr[1e-3]", Weights(run.params, run.batch_stats, run.meta))
    converted = read_weights(folder / "lr[1e-3]")
    jax.tree.map(np.testing.assert_array_equal, converted.params, make_state(2).params)


def test_of_a_run_the_first_save_alone_is_waited_for(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(run_checkpoints, "read_back", lambda folder, _: opened.append(folder.name))
    for steps in ((1, 2), (3,)):
        with RunCheckpoints(tmp_path, keep=1) as checkpoints:
            for step in steps:
                checkpoints.save(make_state(step), make_meta(step))
    assert opened == ["1"]
