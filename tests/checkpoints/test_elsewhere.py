"""Weights in people's hands: copied, packed, linked, read in a notebook, read by Orbax alone."""

import asyncio
import re
import shutil
import tarfile
import threading
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from shunted_jax import ShuntedTransformer, load_pretrained
from shunted_jax.checkpoints import Metadata, Weights, write_weights
from shunted_jax.models.architecture import architecture_of
from tests.support.tiny import ONE_STAGE

MODEL = ShuntedTransformer(**ONE_STAGE | {"num_classes": 5})


def make_variables():
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32),
        jax.eval_shape(MODEL.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32)),
    )


VARIABLES = make_variables()
WEIGHTS = Weights(**VARIABLES, meta=Metadata(architecture_of(MODEL)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "out"
    write_weights(path, WEIGHTS)
    return path


def assert_same(found, expected=VARIABLES):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_copy_is_as_good_as_what_was_written(written, tmp_path, monkeypatch):
    # orbax#394, #1484: of a copy something was missing, and it was taken for unfinished.
    shutil.copytree(written, tmp_path / "copy", copy_function=shutil.copyfile)  # times differ
    (tmp_path / "link").symlink_to(tmp_path / "copy")
    with tarfile.open(tmp_path / "packed.tar", "w") as archive:
        archive.add(written, "another name/über 50 %")
    with tarfile.open(tmp_path / "packed.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    for stranger in (".DS_Store", "params/.DS_Store", "._params", "params/Thumbs.db"):
        (tmp_path / "copy" / stranger).write_bytes(b"of a file manager")
    monkeypatch.chdir(tmp_path)
    for path in ("copy", "link/", "another name/über 50 %", tmp_path / "copy"):
        assert_same(load_pretrained(path)[1])


def test_a_notebook_has_an_event_loop_and_a_server_threads(tmp_path):
    # orbax#481: asyncio.run() within a loop that runs already.
    async def cell():
        write_weights(tmp_path / "out", WEIGHTS)
        return load_pretrained(tmp_path / "out")[1]

    assert_same(asyncio.run(cell()))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_pretrained(tmp_path / "out")[1]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for variables in found:
        assert_same(variables)


def test_orbax_reads_it_without_this_package(written):
    # orbax#487, #1110: the parameters alone, with and without what they look like.
    guide = Path(__file__).parents[2].joinpath("docs/weights.md").read_text()
    (code,) = re.findall(r"```python\n(import jax, numpy.*?)```", guide, re.S)
    names = {}
    exec(re.sub(r"(?m)^item = .*$", f"item = {str(written / 'params')!r}", code), names)
    assert_same(names["params"], VARIABLES["params"])
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, VARIABLES["params"])
    with ocp.StandardCheckpointer() as checkpointer:
        assert_same(checkpointer.restore(written / "params"), VARIABLES["params"])
        assert_same(checkpointer.restore(written / "params", abstract), VARIABLES["params"])
    assert_same(ocp.PyTreeCheckpointer().restore(written / "params"), VARIABLES["params"])


def test_what_is_written_is_for_all_who_may_read_here(written):
    # datasets#6589: files that only their writer can read, in a folder that a group shares.
    reference = written.parent / "reference"
    reference.write_text("")
    readable = reference.stat().st_mode & 0o444
    assert {path.stat().st_mode & 0o444 for path in written.rglob("*")} == {readable}
