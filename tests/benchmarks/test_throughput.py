"""Contestants next to each other: who runs when, and what one that fails costs."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.budget import Budget
from benchmarks.throughput import __main__ as throughput
from benchmarks.throughput import outcome
from benchmarks.throughput.cases import CASES, Case
from benchmarks.throughput.contestants import make
from benchmarks.throughput.measure import alone, in_turn, one_by_one
from benchmarks.throughput.report import summarise, table

TEXT = "shunted_t,inference,1,32,float32"


def case(name):
    return Case.parse(TEXT, name, threads=1)


@pytest.fixture
def events(monkeypatch, tmp_path):
    """Returns what the stand-ins did, in order, once they did it."""
    monkeypatch.setattr(outcome, "MODULE", "tests.benchmarks.stand_in")
    monkeypatch.setenv("EVENTS", str(tmp_path / "events"))
    return lambda: (tmp_path / "events").read_text().splitlines()


def test_on_a_gpu_each_is_alone(events):
    outcomes = list(one_by_one([case("ours"), case("other")], 2, 0.1, 30, Budget(None)))
    ours = ["starts ours", "runs ours", "runs ours", "ends ours"]
    assert events() == ours + [event.replace("ours", "other") for event in ours]
    assert [one.rates().tolist() for one in outcomes] == [[12, 12], [6, 6]]


def test_on_a_cpu_rounds_are_in_turn(events):
    in_turn([case("ours"), case("other")], 2, 0.1, 30, Budget(None))
    assert sorted(events()[:2]) == ["starts other", "starts ours"]
    assert events()[2:6] == ["runs ours", "runs other"] * 2


def test_one_that_fails_costs_its_own_row(events):
    cases = [case(name) for name in ("dies", "ours", "dies later", "other")]
    result = summarise(in_turn(cases, 2, 0.1, 30, Budget(None)))
    assert result["images_per_second"] == {"ours": 12, "other": 6}
    assert result["relative"] == {"ours": 2, "other": 1}
    assert result["failed"] == {
        "dies": "status 1: ValueError: no such device",
        "dies later": "status 1: MemoryError: no memory",
    }
    assert table([result]).splitlines()[-1].endswith("| **2.00** | 12.0 | 6.0 | failed | failed |")


def test_one_that_hangs_is_ended(events):
    (hanging, ours) = one_by_one([case("hangs"), case("ours")], 1, 0.1, 2, Budget(None))
    assert (hanging.failed, ours.failed) == ("out of its 2 s", None)


def test_a_profile_that_fails_costs_no_rounds(events):
    seen = []
    one = alone(case("ours"), 2, 0.1, 30, with_kernels=True, say=lambda so_far: seen.append(so_far))
    assert seen == [one]
    assert one.kernels == {"failed": "status 1: ValueError: no profiler"}
    assert summarise([one])["images_per_second"] == {"ours": 12}


def test_what_no_time_is_left_for_is_named(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    budget = Budget(minutes=1, reserve=10)
    assert budget.grant("first", limit=30) == 30
    now = 30.0
    assert budget.grant("second", limit=30) == 20
    assert budget.grant("third", limit=30, least=20) is None
    now = 50.0
    assert budget.grant("fourth", limit=30) is None
    assert budget.left_out == ["third", "fourth"]


PROGRAM = """
import sys
from benchmarks.throughput import outcome
from benchmarks.throughput.__main__ import main

outcome.MODULE = "tests.benchmarks.stand_in"
main()
"""


def run(tmp_path, *arguments):
    path = tmp_path / "figures.json"
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"--cases={TEXT}", f"--json={path}", *arguments],
        # So that a backend cannot start, and whoever asks for a device fails.
        env={
            **os.environ,
            "JAX_PLATFORMS": "none_that_there_is",
            "EVENTS": str(tmp_path / "events"),
            "PEAK_FLOPS": "1e12",
        },
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, json.loads(path.read_text())


@pytest.mark.parametrize("how", ["--alone", "--no-alone"])
def test_a_whole_run_starts_no_backend_of_its_own(tmp_path, how):
    out, figures = run(tmp_path, how, "--contestants=ours+dies+other")
    (result,) = figures["cases"]
    assert result["relative"]["ours"] == 2
    # 41,313,312 multiply-accumulates an image, counted from the network's program.
    assert result["model_flop_utilisation"]["ours"] == pytest.approx(12 * 2 * 41_313_312 / 1e12)
    assert "dies                                     failed: status 1: ValueError" in out
    assert figures["left_out"] == []


def test_a_run_says_what_it_left_out(tmp_path):
    out, figures = run(tmp_path, "--alone", "--contestants=ours+other", "--minutes=0")
    names = [f"shunted_t inference, batch 1, 32 px, float32, {name}" for name in ("ours", "other")]
    assert figures == {"cases": [], "left_out": names}
    assert out.endswith("left out, as 0 minutes were up:\n    " + "\n    ".join(names) + "\n")


def test_an_unknown_contestant_is_no_pytorch_of_another_name():
    with pytest.raises(ValueError, match="no contestant is 'torch': they are ours; eager; "):
        make(case("torch"))


def test_an_unknown_case_is_refused_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["throughput", "--cases=gpus"])
    with pytest.raises(SystemExit):
        throughput.main()
    assert "--cases=gpus: take cpu, gpu, growth, or cases as variant," in capsys.readouterr().err


def test_cases_for_a_gpu_begin_with_the_most_valuable():
    assert CASES["gpu"][:3] == [
        "shunted_t,inference,128,224,bfloat16",
        "shunted_t,training,128,224,bfloat16",
        "shunted_s,inference,128,224,bfloat16",
    ]
