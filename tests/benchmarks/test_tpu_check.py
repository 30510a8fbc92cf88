"""What somebody with a TPU runs: a failure costs its row alone, and the report says what is so."""

import json
import subprocess
import sys

import pytest

from benchmarks.tpu_check import __main__ as tpu_check
from benchmarks.tpu_check import correctness, parts
from benchmarks.tpu_check.kernels import Distances
from benchmarks.tpu_check.report import block
from benchmarks.tpu_check.rows import PARTS, Row, attempted, checked

DEVICE = Row("device", "tpu", "", "TPU v5 lite, one of 4; jax 0.10.2")


def steps(mode, compute, milliseconds):
    case = f"{mode}, {compute}"
    return Row("steps", case, "ok", f"{milliseconds} ms", {"milliseconds": milliseconds})


def test_the_report():
    rows = [
        DEVICE,
        Row("golden", "a|b", "wrong", "largest difference 1"),
        steps("inference", "auto", 30.0),
        steps("training", "auto", 90.0),
        steps("inference", "pallas", 20.0),
        Row("steps_pallas", "the rest of it", "failed", "ended with signal 11: stack"),
    ]
    assert block(rows, small=False) == (
        "```\n"
        "tpu_check\n"
        "tpu: TPU v5 lite, one of 4; jax 0.10.2\n"
        "checks: 3 ok, 1 wrong, 1 failed\n"
        "inference: the time with auto over that with pallas is 1.50\n"
        "\n"
        "| part | case | verdict | found |\n"
        "|---|---|---|---|\n"
        "| golden | a/b | wrong | largest difference 1 |\n"
        "| steps | inference, auto | ok | 30.0 ms |\n"
        "| steps | training, auto | ok | 90.0 ms |\n"
        "| steps | inference, pallas | ok | 20.0 ms |\n"
        "| steps_pallas | the rest of it | failed | ended with signal 11: stack |\n"
        "```"
    )
    assert "which says nothing of a TPU" in block(rows, small=True)


def test_what_raises_costs_its_row_alone():
    def raises():
        raise MemoryError("vmem exhausted")

    expected = Row("golden", "float32", "failed", "MemoryError: vmem exhausted")
    assert attempted("golden", "float32", raises) == expected
    assert checked("golden", "float32", raises) == expected
    assert checked("golden", "float32", lambda: (False, "far")).verdict == "wrong"


def test_a_kernel_that_gives_no_number_is_wrong():
    near, nan = ({"output": 1e-6, "dx": dx} for dx in (2e-6, float("nan")))
    row = correctness._judge("attention", "a case", 1e-5, Distances(near))
    assert row.verdict == "ok"
    assert row.text == "kernel: values 1.0e-06, gradients 2.0e-06 (dx); below 1e-05"
    assert correctness._judge("attention", "a case", 1e-5, Distances(nan)).verdict == "wrong"
    assert correctness._judge("attention", "a case", 1e-6, Distances(near)).verdict == "wrong"


def test_a_part_that_crashes_keeps_the_rows_that_it_had(monkeypatch):
    row = steps("inference", "auto", 30.0)
    line = json.dumps(vars(row)).encode() + b"\n"

    def run(command, **options):
        assert command == [sys.executable, "-m", "benchmarks.tpu_check.parts", "steps_auto"]
        return subprocess.CompletedProcess(
            command, -11, line + b'{"part', b"*** SIGSEGV ***\nat 0x1\n\n"
        )

    monkeypatch.setattr(subprocess, "run", run)
    assert tpu_check.run_part("steps_auto", small=False, seconds=1) == [
        row,
        Row("steps_auto", "the rest of it", "failed", "ended with signal 11: at 0x1"),
    ]

    def run_for_long(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run_for_long)
    (row,) = tpu_check.run_part("golden", small=False, seconds=300)
    assert (row.case, row.verdict) == ("all of it", "failed")
    assert row.text == "took more than 300 s and was stopped"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("device", "cpu", "", "cpu, one of 1"), "finds no TPU here (cpu); run it on a machine"),
        (Row("device", "all of it", "failed", "libtpu in use"), "no TPU here (libtpu in use); run"),
    ],
)
def test_without_a_tpu_it_says_so(monkeypatch, row, said):
    monkeypatch.setattr(sys, "argv", ["tpu_check"])
    monkeypatch.setattr(tpu_check, "run_part", lambda *arguments: [row])
    with pytest.raises(SystemExit) as stopped:
        tpu_check.main()
    assert said in stopped.value.code
    assert "\n" not in stopped.value.code


def test_every_part_can_be_run():
    assert tuple(parts._ROWS) == PARTS


@pytest.mark.proof
def test_all_of_it_on_a_cpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.tpu_check", "--small", "--seconds=1000"]
    path = tmp_path / "found.json"
    printed = subprocess.check_output([*command, f"--json={path}"], text=True)
    rows = [Row(**row) for row in json.loads(path.read_text())]
    assert [row for row in rows[1:] if row.verdict != "ok"] == []
    assert {row.part for row in rows} == {"device", "attention", "feed_forward", "golden", "steps"}
    assert printed == block(rows, small=True) + "\n"
    for mode in ("inference", "training"):
        assert f"\n{mode}: the time with auto over that with pallas is " in printed
