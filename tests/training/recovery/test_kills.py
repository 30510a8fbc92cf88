"""Runs as processes that are told to stop, killed, or out of room, and started again."""

import contextlib
import os
import re
import signal
import subprocess
import time

import pytest

from shunted_jax.reporting.metrics_files import read_metrics
from tests.support.small_run import SmallRuns, assert_same_end, learned, saved_steps

pytestmark = pytest.mark.proof

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
    for step, while_saving in ((7, False), (28, True)):
        process = runs.start(workdir, *LENGTH)
        wait_for(lambda at=step: at in saved_steps(workdir), process)
        if while_saving:
            wait_for(lambda: list(folder.glob("*tmp*")), process)
        committed = saved_steps(workdir)[-1]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert saved_steps(workdir)[-1] >= committed
    assert_goes_on_as(whole, runs, workdir)


def assert_said_why(status, said, reason):
    assert status == 1, said
    *log, sentence = said.splitlines()
    assert not [line for line in log if not re.match(r"\d\d:\d\d:\d\d ", line)], said
    assert sentence.startswith("train.py: ")
    assert reason in sentence
    assert "Make room and start again with the same --workdir" in sentence


def test_full_disk_stops_the_run_and_spares_what_is_saved(runs, whole):
    """On a file system of its own, where one can be mounted."""
    mount = runs.folder / "small-disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        process = runs.start(mount / "run", *LENGTH)
        wait_for(lambda: saved_steps(mount / "run"), process)
        neighbour = (mount / "neighbour").open("wb", buffering=0)
        with contextlib.suppress(OSError):
            while neighbour.write(bytes(4096)):
                pass
        _, said = process.communicate(timeout=120)
        assert_said_why(process.returncode, said, "No space left on device")
        step = saved_steps(mount / "run")[-1]
        assert f"step {step} is the last one saved" in said
        neighbour.close()
        (mount / "neighbour").unlink()
        assert_goes_on_as(whole, runs, mount / "run")
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
