"""Runs as processes that are told to stop, killed, or out of room, and started again."""

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from shunted_jax.reporting.metrics_files import read_metrics
from tests.small_run import SmallRuns, assert_same_end, learned, saved_arrays, saved_steps

LENGTH = ("--config.epochs=20", "--config.save_every_steps=7", "--config.eval_every_epochs=10")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, digits_dir):
    return SmallRuns(tmp_path_factory.mktemp("kills"), digits_dir)


@pytest.fixture(scope="module")
def whole(runs):
    """Returns the folder of a run of 160 steps that nothing disturbed."""
    status, said = runs.run(runs.folder / "whole", *LENGTH)
    assert status == 0, said
    assert saved_steps(runs.folder / "whole")[-1] == 160
    return runs.folder / "whole"


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.002)


def assert_goes_on_as(whole, runs, workdir):
    status, said = runs.run(workdir, *LENGTH)
    assert status == 0, said
    assert_same_end(whole, workdir)
    records = [learned(read_metrics(path / "metrics.jsonl")) for path in (whole, workdir)]
    assert records[0] == records[1]
    assert len(records[0]) == 54 + 2 + 1  # every third step, the evaluations, the last


def test_sigterm_saves_and_leaves_with_its_status(runs, whole):
    workdir = runs.folder / "terminated"
    process = runs.start(workdir, *LENGTH, "--config.data.num_workers=1")
    wait_for(lambda: saved_steps(workdir), process)
    saved = saved_steps(workdir)[-1]
    os.killpg(process.pid, signal.SIGTERM)  # as a scheduler does: the data's workers, too
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    step = saved_steps(workdir)[-1]
    assert step >= saved
    assert f"stopped by SIGTERM after step {step}, which is saved" in said
    assert not list((workdir / "checkpoints").glob("*tmp*"))
    assert_goes_on_as(whole, runs, workdir)


def test_sigterm_and_ctrl_c_while_saving_harm_nothing(runs, whole):
    workdir = runs.folder / "interrupted"
    process = runs.start(workdir, *LENGTH)
    folder = workdir / "checkpoints"
    wait_for(lambda: saved_steps(workdir) and list(folder.glob("*tmp*")), process)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        time.sleep(0.01)
    process.communicate(timeout=120)
    assert process.returncode in (143, 130, -signal.SIGTERM, -signal.SIGINT)
    assert_goes_on_as(whole, runs, workdir)


def test_sigkill_loses_no_more_than_the_last_save(runs, whole):
    workdir = runs.folder / "killed"
    folder = workdir / "checkpoints"
    for saves in (1, 3):  # in the middle of training, in the middle of a save
        process = runs.start(workdir, *LENGTH)
        before = (saved_steps(workdir) or [0])[-1]
        wait_for(lambda: (saved_steps(workdir) or [0])[-1] >= before + 7 * saves, process)
        if saves == 3:
            wait_for(lambda: list(folder.glob("*tmp*")), process)
        committed = saved_steps(workdir)[-1]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert saved_steps(workdir)[-1] >= committed
    assert_goes_on_as(whole, runs, workdir)


def run_without_room(runs, workdir):
    status, said = runs.run(workdir, "--config.epochs=2000", "--config.save_every_steps=5")
    assert status == 1, said
    assert "Traceback" not in said
    assert "cannot be written into" in said
    assert "Make room and start again with the same --workdir" in said
    return said


def test_full_disk_stops_the_run_and_spares_what_is_saved(runs):
    """On a small file system, where one can be mounted."""
    mount = runs.folder / "small-disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        workdir = mount / "run"
        # Filled as by a neighbour: two checkpoints fit, the next ones do not.
        said_before = runs.run(workdir, "--config.epochs=1", "--config.save_every_steps=5")
        assert said_before[0] == 0, said_before[1]
        left = os.statvfs(mount)
        (mount / "neighbour").write_bytes(bytes(left.f_bavail * left.f_frsize - 2**15))
        status, said = runs.run(workdir, "--config.epochs=1", "--config.eval_every_epochs=1")
        assert status in (0, 1), said
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_file_that_may_not_grow_stops_the_run(runs, monkeypatch):
    """What always works: a limit on the size of the files that the process writes."""
    workdir = runs.folder / "limited"
    start = subprocess.Popen

    def limited(*arguments, **options):
        limit = 20_000  # bytes; the least of a checkpoint's arrays together are more

        def lower():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return start(*arguments, preexec_fn=lower, **options)

    monkeypatch.setattr(subprocess, "Popen", limited)
    said = run_without_room(runs, workdir)
    assert "File too large" in said
