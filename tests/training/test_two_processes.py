"""One run as several real processes: the same numbers as in one, and one that writes."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.training import run as run_module
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run

pytestmark = pytest.mark.proof

REPOSITORY = Path(__file__).parent.parent.parent
STEPS = 20

# Wide enough for the rule to split some of it; at this rate, rounding does not grow over the steps.
CONFIG = """
from shunted_jax.config import MeshConfig
from shunted_jax.models import registry
from tests.support.tiny import ONE_STAGE, tiny_config

registry.VARIANTS["narrow"] = ONE_STAGE | {{"embed_dims": (64,), "mlp_ratios": (4,)}}


def get_config(mesh=(4, 2)):
    return tiny_config(
        {data_dir!r},
        model={{"name": "narrow"}},
        data={{"train_split": "train[:320]", "eval_split": "test[:37]", "image_size": 16}},
        augment={{"mixup_alpha": 0.8}},
        optimizer={{"learning_rate": 1e-4, "clip_norm": 1.0}},
        mesh=MeshConfig(*mesh),
        batch_size=32,
        epochs=2.0,
        log_every_steps=1,
    )
"""


@pytest.fixture(scope="module")
def config_file(digits_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "narrow.py"
    path.write_text(CONFIG.format(data_dir=digits_dir))
    return path


@pytest.fixture(scope="module")
def train_here(config_file, tmp_path_factory):
    """Returns a function that trains in this process, on some devices in some mesh."""
    from shunted_jax.config import resolve
    from shunted_jax.models import registry

    names = {}
    exec(config_file.read_text(), names)

    def train(mesh, devices=8, workdir=None, stop_after=None):
        run = make_on(mesh, devices)
        workdir = workdir or tmp_path_factory.mktemp("run")
        with pytest.MonkeyPatch.context() as patch:
            if stop_after:
                save = RunCheckpoints.save

                def save_then_break_off(self, state, meta):
                    save(self, state, meta)
                    if meta.run.step == stop_after:
                        raise KeyboardInterrupt

                patch.setattr(RunCheckpoints, "save", save_then_break_off)
                with pytest.raises(KeyboardInterrupt):
                    train_and_evaluate(run, workdir)
                return None, workdir
            return train_and_evaluate(run, workdir), workdir

    def make_on(mesh, devices):
        with pytest.MonkeyPatch.context() as patch:
            some = jax.devices()[:devices]
            patch.setattr(run_module, "make_mesh", lambda config: make_mesh(config, some))
            return make_run(resolve(names["get_config"](mesh)))

    yield train
    del registry.VARIANTS["narrow"]


@pytest.fixture(scope="module")
def reference(train_here):
    """Returns the losses, and the evaluation, of a single device."""
    evaluation, workdir = train_here((1, 1), devices=1)
    return losses(workdir), evaluation


def losses(workdir):
    records = read_metrics(workdir / "metrics.jsonl")
    return {
        r["step"]: (r["train/loss"], r["train/grad_norm"]) for r in records if "train/loss" in r
    }


def assert_same(workdir, reference, evaluation=None):
    expected, expected_evaluation = reference
    found = losses(workdir)
    assert list(found) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)
    last = read_metrics(workdir / "metrics.jsonl")[-1]
    assert last["eval/top1"] == expected_evaluation.values()["eval/top1"]
    np.testing.assert_allclose(last["eval/loss"], expected_evaluation.values()["eval/loss"], 1e-4)
    if evaluation is not None:
        np.testing.assert_array_equal(
            evaluation.scores.predictions, expected_evaluation.scores.predictions
        )
        np.testing.assert_array_equal(evaluation.scores.indices, np.arange(37))


def start(arguments, port, index, environment=None, program=REPOSITORY / "train.py", **options):
    return subprocess.Popen(
        [
            sys.executable,
            *(str(program), f"--distributed=127.0.0.1:{port},2,{index}"),
            *map(str, arguments),
        ],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "4",
            "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
            "PYTHONPATH": str(REPOSITORY),
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train_in_two(arguments, environment=None, **options):
    """Returns (status, stdout, stderr) of each of two processes of four devices."""
    port = free_port()
    both = [start(arguments, port, index, environment, **options) for index in range(2)]
    try:
        outputs = [process.communicate(timeout=240) for process in both]
    finally:
        for process in both:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(both, outputs, strict=True)]


@pytest.mark.parametrize("mesh", [(8, 1), (4, 2), (1, 8)])
def test_eight_devices_train_as_one_does(train_here, reference, mesh):
    evaluation, workdir = train_here(mesh)
    assert_same(workdir, reference, evaluation)


def test_two_processes_train_as_one_does(train_here, reference, config_file, tmp_path):
    ((status, said, log), (other_status, other_said, other_log)) = train_in_two(
        [f"--config={config_file}", f"--workdir={tmp_path}"]
    )
    assert (status, other_status) == (0, 0), log + other_log
    assert_same(tmp_path, reference)

    # The first speaks for both, the other is silent; and so it is with the files.
    assert "8 (cpu) of 2 processes, mesh data=4, fsdp=2" in said
    assert "32 global, 16 a process, 4 a device" in said
    assert "step 20 of 20" in log
    assert "s a step, the 19 steps to come take about" in log
    assert not re.search(r"devices|batch|top-1", other_said)
    assert not re.search(r"step \d+ of|initialising|compiled in", other_log)
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 1
    assert {file.name for file in tmp_path.iterdir()} == {
        *(
            "checkpoints",
            "metrics.jsonl",
            "tensorboard",
            "curves.png",
            "predictions.png",
            "train_files.npz",
        )
    }
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert {"data_wait_share", "memory/host_gib", "memory/host_peak_gib"} <= set(first)

    # What two processes saved, one restores, and evaluates to the same.
    evaluation, _ = train_here((4, 2), workdir=tmp_path)
    assert_same(tmp_path, reference, evaluation)


def test_two_processes_go_on_where_one_was(train_here, reference, config_file, tmp_path):
    _, workdir = train_here((4, 2), stop_after=STEPS // 2)
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    ((status, _, log), (other_status, _, other_log)) = train_in_two(
        [f"--config={config_file}", f"--workdir={tmp_path}"]
    )
    assert (status, other_status) == (0, 0), log + other_log
    assert "going on from step 10" in log
    assert_same(tmp_path, reference)


def logged_steps(workdir):
    path = workdir / "metrics.jsonl"
    return list(losses(workdir)) if path.exists() else []


def assert_refused(results, workdir, first):
    """The first of two processes says who has the folder, and both end."""
    assert [status for status, _, _ in results] == [1, 1], results
    logs = [log for _, _, log in results]
    assert f"train.py: {workdir} is in use by process {first.pid} on host " in logs[0]
    assert f"train.py: process 0 may not write into {workdir}: it says why" in logs[1]
    assert not [log for log in logs if "Traceback" in log]


def test_sigterm_to_one_of_two_stops_both_after_the_same_step(config_file, tmp_path):
    workdir, saved = tmp_path / "run", 0
    for told in ([1], [0, 1]):  # a host alone is taken away; both are
        port = free_port()
        arguments = [f"--config={config_file}", f"--workdir={workdir}", "--config.epochs=500"]
        both = [start(arguments, port, index) for index in range(2)]
        try:
            until = time.monotonic() + 200
            while len(logged_steps(workdir)) < saved + 5:
                assert time.monotonic() < until, "no step was logged"
                assert all(process.poll() is None for process in both), both[0].communicate()
                time.sleep(0.1)
            if told == [1]:
                assert_refused(train_in_two(arguments), workdir, both[0])
            for index in told:
                both[index].send_signal(signal.SIGTERM)
            outputs = [process.communicate(timeout=120) for process in both]
        finally:
            for process in both:
                process.kill()
        logs = [log for _, log in outputs]
        assert [process.returncode for process in both] == [143, 143], "\n".join(logs)
        steps = {int(re.search(r"stopped by SIGTERM after step (\d+)", log)[1]) for log in logs}
        assert len(steps) == 1
        assert (f"going on from step {saved}" in logs[0]) == (saved > 0)
        (saved,) = steps
        assert (workdir / "checkpoints" / str(saved)).is_dir()
        assert logged_steps(workdir) == list(range(1, saved + 1))


def test_sigterm_to_one_of_two_breaks_off_the_evaluation_of_both(config_file, tmp_path):
    arguments = [
        f"--config={config_file}",
        f"--workdir={tmp_path}",
        # Hundreds of batches, after the tenth step.
        "--config.data.eval_split=train",
        "--config.eval_batch_size=8",
    ]
    port = free_port()
    both = [start(arguments, port, index) for index in range(2)]
    try:
        for line in both[0].stderr:
            if "step 10 of 20" in line:
                break
        both[1].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=120) for process in both]
    finally:
        for process in both:
            process.kill()
    logs = [log for _, log in outputs]
    assert [process.returncode for process in both] == [143, 143], "\n".join(logs)
    for log in logs:
        assert "stopped by SIGTERM after step 10, which is saved" in log
    assert "eval/top1" not in read_metrics(tmp_path / "metrics.jsonl")[-1]

    ((status, _, log), (other_status, _, other_log)) = train_in_two(arguments)
    assert (status, other_status) == (0, 0), log + other_log
    assert "evaluating it, as it was saved without" in log
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records if "eval/top1" in record] == [10, 20]


# Who is the second of two cannot read step 20, as a disk of its own would have it.
HALF_BLIND = """
import runpy, sys
from shunted_jax.checkpoints import RunCheckpoints, damage

restore = RunCheckpoints.restore

def restore_or_not(self, step, state):
    if step == 20 and sys.argv[1].endswith(",1"):
        raise {error}
    return restore(self, step, state)

RunCheckpoints.restore = restore_or_not
damage.WAITS = (0.1,)
sys.argv[0] = {train!r}
runpy.run_path({train!r}, run_name="__main__")
"""


def test_two_processes_decide_alike_on_what_one_of_them_cannot_read(
    train_here, config_file, tmp_path
):
    _, workdir = train_here((4, 2))
    shutil.copytree(workdir, tmp_path / "run")
    arguments = [f"--config={config_file}", f"--workdir={tmp_path / 'run'}"]
    program, train = tmp_path / "half_blind.py", str(REPOSITORY / "train.py")

    program.write_text(HALF_BLIND.format(train=train, error="OSError(5, 'Input/output error')"))
    results = train_in_two(arguments, program=program)
    assert [status for status, _, _ in results] == [1, 1], results
    assert "checkpoints/20 cannot be read: another host cannot read it" in results[0][2]
    assert "checkpoints/20 cannot be read: OSError: [Errno 5]" in results[1][2]
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["10", "20"]

    program.write_text(HALF_BLIND.format(train=train, error="ValueError('DATA_LOSS: checksum')"))
    results = train_in_two(arguments, program=program)
    assert [status for status, _, _ in results] == [0, 0], results
    assert "moved to damaged-20" in results[0][2]
    assert "going on from step 10" in results[0][2]
    assert (tmp_path / "run" / "checkpoints" / "damaged-20").is_dir()
