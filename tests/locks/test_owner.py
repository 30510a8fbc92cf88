"""Whether the process that a lock names still lives."""

import dataclasses
import os
import subprocess

import pytest

from shunted_jax.locks.owner import Owner, _state_and_start, job_of, owner_in, this_process


def test_a_process_lives_until_it_ends():
    process = subprocess.Popen(["sleep", "1000"])
    _, started = _state_and_start(process.pid)
    owner = dataclasses.replace(this_process(), pid=process.pid, started=started)
    assert owner.lives() is True
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner.lives() is False  # though nobody has asked yet how it ended
    process.wait()
    assert owner.lives() is False
    assert this_process().lives() is True


def test_a_number_that_another_process_has_by_now_is_not_it():
    me = this_process()
    assert dataclasses.replace(me, started=me.started - 1).lives() is False


@pytest.mark.parametrize(
    "elsewhere",
    [{"boot": "another"}, {"boot": None}, {"pid_namespace": 1}, {"started": None}],
    ids=str,
)
def test_of_another_machine_or_container_nothing_is_concluded(elsewhere):
    ended = dataclasses.replace(this_process(), pid=2**22 + 1)
    assert ended.lives() is False
    assert dataclasses.replace(ended, **elsewhere).lives() is None


def test_who_is_named_as_the_scheduler_does():
    assert job_of({"SLURM_JOB_ID": "4711"}) == "Slurm job 4711"
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-0-x7"}
    assert job_of(pod) == "Kubernetes pod train-0-x7"
    assert job_of({"HOSTNAME": "laptop"}) is None
    owner = Owner("a", "node7", 12, "2026-01-31 06:05:00 UTC", "Slurm job 4711")
    who = "process 12 on host node7 (Slurm job 4711), since 2026-01-31 06:05:00 UTC"
    assert owner.describe() == who


def test_what_is_in_a_file():
    me = this_process()
    assert owner_in(me.to_json().encode()) == me
    assert owner_in(b'{"id": "a", "of_a_newer_program": 1}') == Owner("a")
    for content in (b"", b"{", b"\xff", b"[]", b"null", b'{"host": "b"}'):
        assert owner_in(content) is None
