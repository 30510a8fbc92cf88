"""A run whose folder is in a bucket, stopped and killed, against the same run in a folder."""

import json
import shutil
import signal

import pytest

import tests.training.recovery.test_kills as kills
from shunted_jax.reporting.metrics_files import read_metrics
from tests.reporting.test_metrics_files import scalars
from tests.support.emulated_bucket import emulated_bucket
from tests.support.small_run import SmallRuns, learned, saved_arrays, saved_steps
from tests.training.test_two_processes import train_in_two

pytestmark = pytest.mark.proof

LENGTH = ("--config.epochs=6", "--config.save_every_steps=7", "--config.eval_every_epochs=3")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with emulated_bucket(tmp_path_factory.mktemp("emulator")) as bucket:
        yield bucket


@pytest.fixture(scope="module")
def runs(tmp_path_factory, digits_dir, bucket):
    runs = SmallRuns(tmp_path_factory.mktemp("runs"), digits_dir)
    spools = runs.folder / "spools"
    spools.mkdir()
    runs.environment |= bucket.environment | {"TMPDIR": str(spools)}
    return runs


@pytest.fixture(scope="module")
def whole(runs):
    """Returns the folder of a run of 48 steps that nothing disturbed."""
    status, said = runs.run(runs.folder / "whole", *LENGTH)
    assert status == 0, said
    return runs.folder / "whole"


def assert_same(whole, bucket, name):
    there = bucket.folder / name
    assert bucket.saved_steps(name)[-1] == saved_steps(whole)[-1] == 48
    first, second = saved_arrays(whole, 48), saved_arrays(there, 48)
    assert first.keys() == second.keys()
    assert len(first) > 50
    for path, array in first.items():
        assert array.tobytes() == second[path].tobytes(), path
    records = [learned(read_metrics(path / "metrics.jsonl")) for path in (whole, there)]
    assert records[0] == records[1]
    assert len(records[0]) == 16 + 2
    for picture in ("curves.png", "predictions.png"):
        assert (there / picture).read_bytes() == (whole / picture).read_bytes()
    assert {(step, tag) for step, tag, _ in scalars(there / "tensorboard")} == {
        (step, tag) for step, tag, _ in scalars(whole / "tensorboard")
    }


def test_run_goes_on_from_the_bucket_alone(runs, whole, bucket):
    process = runs.start("gs://bucket/stopped", *LENGTH)
    kills.wait_for(lambda: bucket.saved_steps("stopped"), process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    step = bucket.saved_steps("stopped")[-1]
    assert f"stopped by SIGTERM after step {step}, which is saved" in said
    records = read_metrics(bucket.folder / "stopped" / "metrics.jsonl")
    assert records[-1]["step"] > step - 3
    assert not list((runs.folder / "spools").iterdir())  # nothing is left on this host

    process = runs.start("gs://bucket/stopped", *LENGTH)
    kills.wait_for(lambda: bucket.saved_steps("stopped")[-1] >= step + 7, process)
    process.kill()
    process.communicate()
    shutil.rmtree(runs.folder / "spools")  # the host is gone, and all that was on it
    (runs.folder / "spools").mkdir()

    newest = bucket.saved_steps("stopped")[-1]
    checkpoints = bucket.folder / "stopped" / "checkpoints"
    bucket.delete(f"stopped/checkpoints/{newest}/meta/metadata")

    status, said = runs.run("gs://bucket/stopped", *LENGTH)
    assert status == 0, said
    assert f"the checkpoint of step {newest} cannot be read: " in said
    assert f"moved to damaged-{newest} in gs://bucket/stopped/checkpoints" in said
    assert (checkpoints / f"damaged-{newest}" / "params" / "manifest.ocdbt").exists()
    assert "going on from step" in said
    assert bucket.pages
    assert_same(whole, bucket, "stopped")
    assert not (bucket.folder / "stopped" / "lock.json").exists()


def test_what_is_in_the_bucket_can_be_scored_and_started_from(runs, bucket):
    status, said = runs.run("gs://bucket/short", "--config.epochs=1")
    assert status == 0, said
    status, said = runs.run("gs://bucket/short", "--mode=eval", "--step=latest")
    assert status == 0, said
    score = json.loads((bucket.folder / "short" / "eval.json").read_text())
    last = read_metrics(bucket.folder / "short" / "metrics.jsonl")[-1]
    assert score["checkpoint"] == "gs://bucket/short"
    assert score["top1"] == last["eval/top1"]

    # The newest is not whole yet: others take the one before.
    newest = bucket.folder / "short" / "checkpoints" / "9"
    shutil.copytree(newest.parent / "8", newest)
    status, said = runs.run(
        "gs://bucket/later", "--config.epochs=1", "--config.init_from=gs://bucket/short"
    )
    assert status == 0, said
    assert "starting from gs://bucket/short, with its head of 10 classes" in said


@pytest.mark.parametrize("refused", ["checkpoints", "metrics.jsonl"])
def test_bucket_that_takes_no_more_ends_the_run_in_a_sentence(runs, bucket, refused):
    name = f"without-{refused}"
    process = runs.start(f"gs://bucket/{name}", *LENGTH, "--config.epochs=400")
    try:
        kills.wait_for(lambda: bucket.saved_steps(name), process)
        status, told = runs.run(f"gs://bucket/{name}", *LENGTH, "--config.epochs=400")
        assert status == 1, told
        assert f"gs://bucket/{name} is in use by process {process.pid} on host " in told
        bucket.refuses = f"{name}/{refused}"
        _, said = process.communicate(timeout=120)
    finally:
        bucket.refuses = None
    assert process.returncode == 1, said
    (sentence,) = [line for line in said.splitlines() if line.startswith("train.py: ")]
    assert "Traceback" not in said
    assert said.splitlines()[-1] == sentence
    assert f"gs://bucket/{name}" in sentence
    assert "start again with the same --workdir" in sentence


def test_two_processes_write_into_one_bucket(runs, bucket):
    arguments = [f"--config={runs.config}", "--workdir=gs://bucket/two", "--config.epochs=2"]
    results = train_in_two(arguments, runs.environment)
    assert [status for status, _, _ in results] == [0, 0], results
    assert bucket.saved_steps("two") == [8, 16]
    again = train_in_two(arguments, runs.environment)
    assert [status for status, _, _ in again] == [0, 0], again
    assert "this run is complete: evaluating its last checkpoint" in again[0][2]
    records = read_metrics(bucket.folder / "two" / "metrics.jsonl")
    assert [record["step"] for record in records if "eval/top1" in record] == [8, 16]
    assert len(list((bucket.folder / "two" / "tensorboard").iterdir())) == 2  # one for each start
