"""Runs as processes that are started a second time, at the same moment or later."""

import contextlib
import os
import signal
import socket
import time

import pytest

import tests.training.recovery.test_kills as kills
from shunted_jax.reporting.metrics_files import read_metrics
from tests.support.small_run import SmallRuns, assert_same_end, learned, saved_steps

pytestmark = pytest.mark.proof

LENGTH = ("--config.epochs=6", "--config.eval_every_epochs=3")
# `make twice` starts 20.
PAIRS = int(os.environ.get("SHUNTED_JAX_PAIRS", "3"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, digits_dir):
    return SmallRuns(tmp_path_factory.mktemp("runs"), digits_dir)


@pytest.fixture(scope="module")
def whole(runs):
    """Returns the folder of a run of 48 steps that nothing disturbed."""
    status, said = runs.run(runs.folder / "whole", *LENGTH)
    assert status == 0, said
    return runs.folder / "whole"


def assert_refused(status, said, workdir, process):
    assert status == 1, said
    assert "Traceback" not in said
    sentence = said.splitlines()[-1]
    who = f"process {process.pid} on host {socket.gethostname()}"
    assert sentence.startswith(f"train.py: {workdir} is in use by {who}")
    assert sentence.endswith(" UTC: wait until it ends, or name another --workdir")


def assert_whole(workdir, whole):
    assert_same_end(whole, workdir)
    assert saved_steps(workdir) == saved_steps(whole)
    records = [learned(read_metrics(path / "metrics.jsonl")) for path in (whole, workdir)]
    assert records[0] == records[1]
    assert {path.name for path in workdir.iterdir()} == {path.name for path in whole.iterdir()}


def process_groups():
    groups = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError):
            groups.append(os.getpgid(int(number)))
    return groups


def assert_gone(process):
    """Asserts that a process leaves none that it started, whatever these still have to do."""
    end = time.monotonic() + 60
    while any(group == process.pid for group in process_groups()):
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("pair", range(PAIRS))
def test_of_two_at_once_one_trains_and_the_other_says_so(runs, whole, pair):
    workdir, started = runs.folder / f"pair-{pair}", time.monotonic()
    both = [runs.start(workdir, *LENGTH) for _ in range(2)]
    said = [process.communicate(timeout=240)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], "\n".join(said)
    winner, loser = sorted(range(2), key=lambda index: both[index].returncode)
    assert "Traceback" not in said[winner]
    assert_refused(1, said[loser], workdir, both[winner])
    for process in both:
        assert_gone(process)
    assert_whole(workdir, whole)
    print(f"pair {pair}: number {winner} won, {time.monotonic() - started:.1f} s")


def test_who_is_killed_lets_the_next_one_go_on_at_once(runs, whole):
    workdir = runs.folder / "killed"
    more = ("--config.save_every_steps=7", "--config.data.num_workers=1")
    process = runs.start(workdir, *LENGTH, *more)
    try:
        kills.wait_for(lambda: saved_steps(workdir), process)
        os.kill(process.pid, signal.SIGSTOP)  # stays where it is while others look
        assert_refused(*runs.run(workdir, *LENGTH), workdir, process)
        status, said = runs.run(workdir, *LENGTH, "--mode=eval", "--step=latest")
        assert status == 0, said
    finally:
        process.kill()  # alone, as when memory is short: its workers end by themselves
    process.wait()
    status, said = runs.run(workdir, *LENGTH, *more)
    process.communicate(timeout=60)
    assert_gone(process)
    assert status == 0, said
    assert "going on from step" in said
    assert "may still write there" not in said
    assert_same_end(whole, workdir)
    assert not (workdir / "lock.json").exists()


def test_a_run_that_lost_its_folder_ends_before_it_saves(runs):
    workdir = runs.folder / "lost"
    process = runs.start(workdir, "--config.epochs=300", "--config.save_every_steps=7")
    kills.wait_for(lambda: saved_steps(workdir), process)
    (workdir / "lock.json").unlink()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert f"{workdir}/lock.json is gone. Nothing was written over" in said.splitlines()[-1]
    assert saved_steps(workdir)[-1] < 300 * 8
