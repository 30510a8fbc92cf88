"""The order of the GPU check, and that it keeps what it has, whatever becomes of a step."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import jax
import jax.numpy as jnp
import pytest

from benchmarks.budget import Budget
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import forms, rows
from benchmarks.gpu_check.plan import PARTS, Script, plan
from benchmarks.gpu_check.record import Record
from benchmarks.gpu_check.run import run_network, run_script
from benchmarks.gpu_check.wheels import install
from benchmarks.throughput import outcome
from benchmarks.throughput.kernels import profile
from shunted_jax.ops.operation import Form, Operation
from tests.support.products import float32_precisions


def read(folder):
    return json.loads((folder / "check.json").read_text())


def test_the_most_valuable_steps_come_first():
    steps = [str(step) for step in plan(PARTS, small=False)]
    t = "shunted_t {}, batch 128, 224 px, bfloat16, {}".format
    assert steps[:6] == [
        "machine",
        "goldens eval",
        t("inference", "ours"),
        t("inference", "compile channels_last, CUDA graphs"),
        t("training", "ours"),
        t("training", "compile channels_last, CUDA graphs"),
    ]
    assert len(steps) == len(set(steps))
    assert [step.startswith("shunted_s") for step in steps[-6:]] == [True] * 6


def test_parts_choose():
    assert [str(step) for step in plan(["forms", "digits"], small=True)] == [
        "forms --small",
        "digits --small",
    ]
    assert [s for s in plan(["networks"], small=True) if s.with_kernels] == []
    profiled = [step for step in plan(["networks", "kernels"], small=True) if step.with_kernels]
    assert {step.case.contestant for step in profiled} == {"ours"}


def test_a_step_that_fails_costs_its_own_row(tmp_path, monkeypatch):
    monkeypatch.setattr(outcome, "MODULE", "tests.benchmarks.stand_in")
    monkeypatch.setenv("EVENTS", str(tmp_path / "events"))
    record = Record(tmp_path, Budget(None))
    run_script(Script("no_such_part"), 30, record)
    assert "No module named" in read(tmp_path)["rows"][0]["failed"]
    ours = next(step for step in plan(["networks"], small=True) if step.case.contestant == "ours")
    run_network(ours, 30, record)
    assert read(tmp_path)["cases"][0]["images_per_second"] == {"ours": 12}  # before the end
    record.finish()
    assert "ours" in (tmp_path / "check.log").read_text()


def test_what_no_time_is_left_for_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu_check", "--minutes=0", f"--out={tmp_path}"])
    monkeypatch.chdir(tmp_path)  # which has no wheels
    monkeypatch.setattr("os.environ", {**os.environ})  # which a run changes, for its children
    monkeypatch.setattr("signal.signal", lambda *_: None)
    gpu_check.main()
    found = read(tmp_path)
    assert found["rows"] == []
    assert found["left_out"] == [str(step) for step in plan(PARTS, small=False)]


INTERRUPTED = """
import dataclasses
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.throughput import outcome

outcome.MODULE = "tests.benchmarks.stand_in"
(first, *_) = gpu_check.plan(["networks"], small=True)
hanging = dataclasses.replace(first, case=dataclasses.replace(first.case, contestant="hangs"))
gpu_check.plan = lambda *_: [first, hanging]
gpu_check.main()
"""


def test_an_end_from_outside_keeps_all_so_far_and_leaves_no_child(tmp_path):
    events = tmp_path / "events"
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, "--parts=networks", f"--out={tmp_path}"],
        env={**os.environ, "EVENTS": str(events)},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while "starts hangs" not in (events.read_text() if events.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate()  # which waits for whoever holds the other end
    assert run.returncode == 143
    assert "| 12.0 |" in out
    assert read(tmp_path)["cases"][0]["images_per_second"] == {"ours": 12}


def test_an_unknown_part_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu_check", "--parts=golden"])
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert "the parts are machine, goldens" in capsys.readouterr().err


def test_without_wheels_nothing_is_installed(tmp_path):
    assert install(tmp_path / "none", tmp_path / "site") is None


def test_a_wheel_that_cannot_be_installed_costs_no_other(tmp_path, capfd):
    (tmp_path / "broken-1.0-py3-none-any.whl").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "whole-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("whole.py", "")
        info = "whole-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: whole\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    assert install(tmp_path, tmp_path / "site") == tmp_path / "site"
    assert "not installed: broken-1.0-py3-none-any.whl" in capfd.readouterr().err
    assert (tmp_path / "site" / "whole.py").exists()


def test_operations_are_those_of_the_network():
    found = forms.operations_of_t(batch=2, side=32)
    names = {str(operation) for operation, _ in found}
    assert {"attention", "depthwise", "layer_norm"} <= names
    maps = [(shapes[0][0], n) for (op, shapes), n in found.items() if str(op) == "attention"]
    assert sum(n for _, n in maps) == 1 * 2 + 2 * 2 + 4 * 2 + 1  # two groups of heads, but at last
    assert all(shape[0] == 2 for shape, _ in maps)


def test_exact_operations_are_the_same_ones_at_the_highest_precision():
    found, exact = (forms.operations_of_t(2, 32, precision) for precision in (None, "highest"))
    precisions = set()
    for (operation, shapes), (other, others_shapes) in zip(found, exact, strict=True):
        assert (str(operation), shapes) == (str(other), others_shapes)
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape, _ in shapes]
        program = jax.jit(other.reference).trace(*arrays).lower(lowering_platforms=("cuda",))
        precisions |= {*float32_precisions(program)}
    assert precisions == {"HIGHEST"}


def test_forms_are_compared_with_exact_values(monkeypatch):
    written = []
    monkeypatch.setattr(rows, "row", lambda **figures: written.append(figures))
    form = Form(lambda x, k: (x @ k) * 1.25, lambda x, k, dout: (dout @ k.T, x.T @ dout))
    operation = Operation("product", jnp.matmul, {"cpu": form})
    arrays = forms.draw([((4, 8), "float32"), ((8, 8), "float32")], batch=4)
    forms.compare({"operation": "product"}, operation, operation, arrays)
    forward, both = written
    assert (forward["mode"], both["mode"]) == ("forward", "forward+backward")
    assert forward["auto_error"] == pytest.approx(0.25, rel=1e-5)
    assert both["auto_error"] == pytest.approx(0.25, rel=1e-5)
    assert forward["reference_error"] < 1e-6
    assert forward["speedup"] == forward["reference_ms"] / forward["auto_ms"]


def test_kernels_are_of_a_step():
    program = jax.jit(lambda x: x @ x).lower(jnp.ones((256, 256))).compile()
    results = []
    found = profile(
        lambda: results.append(program(jnp.ones((256, 256)))),
        lambda: jax.block_until_ready(results),
        2,
        program.as_text(),
    )
    assert len(results) == 2
    assert found["kernel_ms"] > 0
    assert any("dot_general" in kernel["source"] for kernel in found["kernels"])
