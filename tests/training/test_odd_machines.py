"""Whole runs on machines that are not as one expects: pods, half a Slurm, few files, no inodes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from shunted_jax.reporting.metrics_files import read_metrics
from tests.support.small_run import REPOSITORY, SmallRuns, saved_steps

pytestmark = pytest.mark.proof

_BACKWARDS = """
import time

_now, _start = time.time, time.time()
time.time = lambda: 2 * _start - _now()  # a clock that is set back all the time
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, digits_dir):
    return SmallRuns(tmp_path_factory.mktemp("odd"), digits_dir)


def test_a_pod_that_nobody_has_a_name_in(runs):
    """Slurm's variables without its tasks, Kubernetes', no user, no home, -O, 64 open files."""
    workdir, config = runs.folder / "pod", runs.folder / "backwards.py"
    config.write_text(_BACKWARDS + runs.config.read_text())
    strange = {"SLURM_JOB_ID": "7", "SLURM_NODELIST": "a[1-2]", "KUBERNETES_SERVICE_HOST": "::1"}
    environment = {**runs.environment, **strange}
    del environment["HOME"]
    nameless = ["unshare", "--user", "--map-user=54321"]
    if subprocess.run([*nameless, "true"], check=False, capture_output=True).returncode:
        nameless = []  # a user of this machine's then
    command = [sys.executable, "-O", str(REPOSITORY / "train.py"), f"--config={config}"]
    command += [f"--workdir={workdir}", "--config.epochs=2"]
    result = subprocess.run(
        ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *nameless, *command],
        cwd=runs.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert saved_steps(workdir)[-1] == 16
    assert {"eval/top1"} <= read_metrics(workdir / "metrics.jsonl")[-1].keys()


def test_a_killed_worker_ends_the_run(runs):
    options = ("--config.data.num_workers=1", "--config.save_every_steps=2")
    process = runs.start(runs.folder / "worker", *options)
    end = time.monotonic() + 120
    while not saved_steps(runs.folder / "worker"):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "spawn_main"],
        capture_output=True,
        text=True,
        check=True,
    )
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    start = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert time.monotonic() - start < 30
    assert said


def test_a_disk_without_room_for_more_files(runs):
    mount = runs.folder / "few-files"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "nr_inodes=120", "tmpfs", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        options = ("--config.keep_checkpoints=100", "--config.eval_every_epochs=1")
        status, said = runs.run(mount / "run", *options)
        assert status == 1, said
        assert "No space left on device" in said.splitlines()[-1]
        assert "Traceback" not in said
        step = saved_steps(mount / "run")[-1]
        assert f"step {step} is the last one saved" in said
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
