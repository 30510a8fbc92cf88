"""Damage told from what may pass: real files that are damaged, and faults that are injected."""

import errno
import json
import os
import resource
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from shunted_jax.checkpoints import (
    BEST_METRIC,
    Metadata,
    RunCheckpoints,
    Weights,
    damage,
    read_weights,
    weights,
    write_weights,
)
from shunted_jax.checkpoints.damage import DamagedError, is_damage, read_patiently
from shunted_jax.errors import RunError, UserError
from tests.checkpoints.test_run_checkpoints import abstract, make_meta, make_state

# As they were seen with tensorstore 0.1.84, whose errors are ValueErrors.
TENSORSTORE = 'Error opening "zarr" driver: Error reading "dense.kernel/.zarray"'


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Has nobody wait; returns how long each would have waited."""
    waited = []
    monkeypatch.setattr(damage.time, "sleep", waited.append)
    return waited


@pytest.fixture
def folder(tmp_path):
    """Returns a folder with a file in it, all of which can be read."""
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "x").write_bytes(b"x")
    return epath.Path(tmp_path)


def caused(outer, cause):
    outer.__cause__ = cause
    return outer


DAMAGE = {
    "no JSON": json.JSONDecodeError("Expecting value", "{", 1),
    "no text": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "missing": FileNotFoundError(errno.ENOENT, "No such file or directory"),
    "missing item": KeyError('Item "params" was not found in the checkpoint'),
    "cut off": ValueError(f"OUT_OF_RANGE: {TENSORSTORE}: Requested byte range [0, 310) is not"),
    "checksum": ValueError(f"DATA_LOSS: {TENSORSTORE}: CRC-32C checksum verification failed"),
    "chunk": caused(Exception("Encountered"), ValueError("FAILED_PRECONDITION: Truncated Zstd")),
    "without a status": ValueError(f"{TENSORSTORE}: ZSTD_decompressStream() failed"),
}
HINDRANCES = {
    "disk": OSError(errno.EIO, "Input/output error"),
    "NFS": OSError(errno.ESTALE, "Stale file handle"),
    "permission": PermissionError(errno.EACCES, "Permission denied"),
    "network": ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "slow network": TimeoutError(),
    "gcsfs": OSError("Forbidden: https://storage.googleapis.com/..."),
    "a client of HTTP": type("ClientError", (Exception,), {})("503"),
    "tensorstore on a disk": ValueError(f"UNKNOWN: {TENSORSTORE}: Input/output error"),
    "tensorstore on NFS": ValueError(f"ABORTED: {TENSORSTORE}: Stale file handle"),
    "open files": ValueError(f"RESOURCE_EXHAUSTED: {TENSORSTORE}: Too many open files"),
    "bucket": caused(Exception("Encountered"), ValueError(f"UNAVAILABLE: {TENSORSTORE}: 503")),
    "memory": MemoryError(),
    "memory below": caused(ValueError("cannot make the array"), MemoryError()),
    "device memory": damage.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_known(folder, kind, waits):
    def read():
        raise DAMAGE[kind]

    assert is_damage(DAMAGE[kind], folder)
    with pytest.raises(DamagedError):
        read_patiently(read, folder)
    assert not waits


@pytest.mark.parametrize("kind", HINDRANCES)
def test_what_may_pass_is_tried_again_and_then_stops(folder, kind, waits):
    tries = []

    def read():
        tries.append(kind)
        raise HINDRANCES[kind]

    with pytest.raises(RunError, match=r"cannot be read: .*It need not be damaged"):
        read_patiently(read, folder)
    assert waits == list(damage.WAITS)
    assert len(tries) == 1 + len(waits)


def test_what_has_passed_is_read(folder, waits):
    errors = [HINDRANCES["disk"], HINDRANCES["bucket"]]

    def read():
        if errors:
            raise errors.pop()
        return "read"

    assert read_patiently(read, folder) == "read"
    assert len(waits) == 2


def test_nothing_is_damaged_while_its_files_cannot_be_read(folder, monkeypatch):
    # A FUSE mount whose server is gone: tensorstore's words are those of a damaged file.
    gone = ValueError("FAILED_PRECONDITION: Transport endpoint is not connected")
    assert is_damage(gone, folder)
    opened = type(folder).open

    def open_(path, *arguments):
        if path.name == "x":
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return opened(path, *arguments)

    monkeypatch.setattr(type(folder), "open", open_)
    assert not is_damage(gone, folder)
    assert not is_damage(gone, folder / "nowhere")


def test_hosts_agree_on_the_worst_of_their_verdicts(folder, waits):
    with pytest.raises(DamagedError, match="another host cannot read it"):
        read_patiently(lambda: "read", folder, lambda mine: damage.DAMAGED)
    with pytest.raises(RunError, match="another host cannot read it"):
        read_patiently(lambda: "read", folder, lambda mine: damage.HINDERED)


@pytest.fixture
def run_folder(tmp_path):
    """Returns a run's checkpoints of steps 1 to 3; the first one is the best."""
    with RunCheckpoints(tmp_path / "run", keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(make_state(step), make_meta(step, {BEST_METRIC: 1 / step}))
    return tmp_path / "run"


def fail_on(monkeypatch, part, errors):
    """Has texts whose paths have `part` in them be unreadable, as often as there are errors."""
    kind = type(epath.Path("x"))
    read = kind.read_text

    def read_text(path, *arguments, **named):
        if part in str(path) and errors:
            raise errors.pop()
        return read(path, *arguments, **named)

    monkeypatch.setattr(kind, "read_text", read_text)


def test_best_is_kept_where_its_score_could_not_be_read_at_first(run_folder, monkeypatch, waits):
    fail_on(monkeypatch, "run/1/meta", [OSError(errno.EIO, "Input/output error") for _ in "12"])
    with RunCheckpoints(run_folder, keep=1) as checkpoints:
        checkpoints.save(make_state(4), make_meta(4, {BEST_METRIC: 0.1}))
    assert len(waits) == 2
    assert sorted(path.name for path in run_folder.iterdir()) == ["1", "4"]


def test_run_stops_where_a_score_cannot_be_read(run_folder, monkeypatch):
    fail_on(monkeypatch, "run/1/meta", [OSError(errno.ESTALE, "Stale file handle")] * 9)
    with pytest.raises(RunError, match=r"run/1 cannot be read: OSError: .*Stale file handle"):
        RunCheckpoints(run_folder, keep=1)
    with pytest.raises(RunError, match=r"run/1 cannot be read"):
        read_weights(run_folder)
    assert sorted(path.name for path in run_folder.iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "damage_it",
    [
        lambda path: path.write_text('{"mod'),
        lambda path: path.write_text(path.read_text().replace("0.5", "0.9")),
        lambda path: path.write_text("[]"),
        lambda path: path.write_bytes(b"\xff"),
        os.unlink,
    ],
)
def test_damaged_score_is_no_score(run_folder, damage_it, waits):
    damage_it(run_folder / "2" / "meta" / "metadata")
    with RunCheckpoints(run_folder, keep=1) as checkpoints:
        checkpoints.save(make_state(4), make_meta(4))
    assert sorted(path.name for path in run_folder.iterdir()) == ["1", "4"]
    assert not waits


def test_damaged_arrays_are_told_from_hindered_ones(run_folder, monkeypatch, waits):
    """With the files and the errors of the packages that are installed."""
    with RunCheckpoints(run_folder, keep=3) as checkpoints:
        state = abstract(make_state())

        def verdict(step):
            with pytest.raises(Exception, match=".") as raised:
                checkpoints.restore(step, state)
            return is_damage(raised.value, checkpoints.directory / str(step))

        for path in (run_folder / "3" / "params").rglob("d/*"):
            path.write_bytes(path.read_bytes()[:50])
        assert verdict(3)
        shutil.rmtree(run_folder / "3" / "train")
        assert verdict(3)
        # As many files are open as may be: tensorstore's own error, and nobody's damage.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
        try:
            hindered = verdict(2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not hindered
        restored = checkpoints.restore(2, state)
    np.testing.assert_array_equal(restored.batch_stats["norm"]["mean"], -jnp.arange(64.0) - 2)


def test_what_a_run_clears_away_while_it_is_read_is_chosen_anew(run_folder, monkeypatch):
    read_tree = weights._read_tree

    def cleared_away(folder):
        if folder.parent.name == "3":
            shutil.rmtree(folder.parent)
        return read_tree(folder)

    monkeypatch.setattr(weights, "_read_tree", cleared_away)
    assert read_weights(run_folder, "latest").step == 2
    with pytest.raises(UserError, match="has no checkpoint of step 3; it has 1, 2"):
        read_weights(run_folder, 3)


def test_damaged_weights_are_the_users_error(tmp_path):
    params = {"dense": {"kernel": np.arange(99, dtype=np.float32)}}
    write_weights(tmp_path / "out", Weights(params, params, Metadata({})))
    same = read_weights(tmp_path / "out").params["dense"]["kernel"]
    np.testing.assert_array_equal(same, params["dense"]["kernel"])
    for path in (tmp_path / "out" / "params").rglob("d/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="out cannot be read: ValueError: OUT_OF_RANGE: .*"):
        read_weights(tmp_path / "out")
