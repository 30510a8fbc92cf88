"""etils' globs, and what Orbax makes of a folder whose name looks like a pattern."""

import pickle

import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from shunted_jax.adapters.etils import Folder
from tests.adapters.contract import error_of, seen_with

PATTERNS = ["run[1]", "run*", "run?", "a[!b]c"]


@pytest.mark.parametrize("name", PATTERNS)
def test_the_names_above_are_no_part_of_the_pattern(name, tmp_path):
    for folder in (name, "run1", "runs", "axc"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "part_0").touch()
    folder = Folder(tmp_path) / name / "deep"
    assert list(folder.glob("part_*")) == [folder / "part_0"]
    assert list((Folder(tmp_path) / name).glob("*/part_[0]")) == [folder / "part_0"]
    assert list(folder.glob("none_*")) == []


@seen_with("etils", "1.15.0", "a glob took the names of the folders above for a pattern")
def test_its_own_globs_read_them_as_a_pattern(tmp_path):
    for folder in ("run[1]", "run*", "run1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part_0").touch()
    path = epath.Path(tmp_path)
    assert list((path / "run[1]").glob("part_*")) == [path / "run1" / "part_0"]
    assert len(list((path / "run*").glob("part_*"))) == 3


@seen_with("etils", "1.15.0", "what was made of a path was of the class that the path had")
def test_what_is_made_of_a_folder_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Folder("x") / "y"
    folder.mkdir(parents=True)
    made = [
        epath.Path(folder),
        folder / "z",
        folder.parent,
        folder.with_name("z"),
        folder.absolute(),
        *folder.parent.iterdir(),
    ]
    made += [pickle.loads(pickle.dumps(folder)), folder.rename(tmp_path / "x" / "z")]
    assert {type(path) for path in made} == {Folder}
    assert folder == epath.Path("x/y")


@seen_with("orbax-checkpoint", "0.12.8", "it globbed for parts, and metadata() opened each array")
def test_orbax_puts_a_checkpoint_together_in_such_a_folder(tmp_path):
    def saved_and_opened(folder):
        handler = ocp.StandardCheckpointHandler()
        with ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save(folder, args=ocp.args.StandardSave({"a": np.arange(3)}))
        return ocp.PyTreeCheckpointHandler().metadata(folder).tree["a"].shape

    assert saved_and_opened(Folder(tmp_path) / "run[1]" / "x") == (3,)
    error = error_of(saved_and_opened, epath.Path(tmp_path) / "run[1]" / "y")
    assert str(error).startswith("NOT_FOUND")
