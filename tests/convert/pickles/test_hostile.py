"""Strangers' files that are meant to harm: nothing runs, nothing hangs, and the memory suffices."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.convert.pickles.hostile import MARKER, RUNS, SOUND, files, pickled, read

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module", params=[0.1, pytest.param(1, marks=pytest.mark.proof)])
def results(request, tmp_path_factory):
    """What came of each file, in a process that counts what it does."""
    made = files(request.param)
    folder = tmp_path_factory.mktemp("hostile")
    stems = {f"{number:03}": of for number, of in enumerate(made)}
    for stem, of in stems.items():
        (folder / f"{stem}.pth").write_bytes(made[of])
    command = [sys.executable, "-m", "tests.convert.pickles.hostile"]
    command += [str(folder), str(request.param)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = {stems[stem]: result for stem, result in json.loads(run.stdout).items()}
    found["left"] = {path.name for path in folder.iterdir() if path.suffix != ".pth"}
    return found


def test_nothing_is_run_and_nothing_hangs(results):
    assert not results.pop("left", None)
    assert not (REPOSITORY / MARKER).exists()
    assert len(results) >= 100
    for of, result in results.items():
        assert result["events"] == [], (of, result)
        assert result["seconds"] < 5, (of, result)
        assert result["megabytes"] < 1000, (of, result)
        assert len(result["said"]) < 2000, (of, result)
        assert result["said"].replace("\n  ", "").isprintable(), (of, result)
        assert result["said"] != "converted", of


def test_what_runs_code_is_refused_by_its_name(results):
    for of in RUNS:
        said = results[f"runs {of}"]["said"]
        assert f"asks to load {of}, which weights do not need" in said, said
        assert "nothing was run" in said
    for of, result in results.items():
        if of.startswith("commands: "):
            assert "asks to load " in result["said"], (of, result)
    assert "asks to load os.system" in results["runs os.system in an archive"]["said"]


def test_only_what_is_broken_is_said_to_be_damaged(results):
    for of, result in results.items():
        if of.startswith("broken: "):
            assert " is damaged or not a checkpoint" in result["said"], (of, result)
    sound = ("getattr", "partial of eval", "attrgetter", "extension 1", "set an item of a record")
    for of in ("a type with parts", "a type in a bad order", "an array of a terabyte"):
        assert " is damaged or not a checkpoint" in results[f"large: {of}"]["said"], of
    for of in sound:
        assert "damaged" not in results[f"inert: {of}"]["said"], of


def test_the_files_would_harm_whoever_runs_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for of in ("os.system", "builtins.exec"):
        pickle.loads(pickled(RUNS[of]))
        assert (tmp_path / MARKER).exists()
        (tmp_path / MARKER).unlink()
    # And the archive that the others are changed from is sound.
    (tmp_path / "sound.pth").write_bytes(SOUND)
    assert "no Shunted Transformer's checkpoint" in read(tmp_path / "sound.pth")


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("a storage that is longer than its member", "the storage 0 is shorter than its pickle"),
        ("a storage elsewhere", "it lacks a/data/../../../etc/passwd"),
        ("a storage with a NUL", "it lacks a/data/0\\x00"),
        ("a storage of os.system", "asks to load os.system"),
        ("a tensor beyond its storage", "reaches beyond its storage, a/data/0"),
        ("a tensor of a huge stride", "reaches beyond its storage, a/data/0"),
        ("a tensor of stride 0", "its tensors are far larger than itself"),
        ("many tensors of one storage", "its tensors are far larger than itself"),
        ("a member squeezed", "packed once more by another program, which compressed it"),
        ("a member twice as long as it is", "a/data/0 reaches beyond the file's end"),
        ("a member over another", "its members overlap at a/data/0"),
        ("a member with half a password", "a/data/0 is said to be packed in two ways"),
        ("a member with a password", "is an archive with a password"),
        ("a checksum that is wrong", "the checksum of a/data/0 is wrong"),
    ],
)
def test_archives_that_lie_are_told_what_about(of, said, results):
    assert said in results[f"archive: {of}"]["said"]
