"""Finding the other processes: what can be said, what is found, what fails in a sentence."""

import concurrent.futures
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shunted_jax.errors import UserError
from shunted_jax.training.devices.distributed import Place, parse_place, slurm_devices

REPOSITORY = Path(__file__).parents[3]


def in_a_process(code, **environ):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI"))},
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(REPOSITORY),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def connecting(flag, timeout_s=5):
    return (
        "import sys, jax\n"
        "from shunted_jax.errors import UserError\n"
        "from shunted_jax.training.devices import distributed\n"
        "try:\n"
        f"    distributed.connect({flag!r}, timeout_s={timeout_s})\n"
        f"    distributed.connect({flag!r}, timeout_s={timeout_s})\n"  # does nothing
        "except UserError as error:\n"
        "    sys.exit(f'error: {error}')\n"
        "print('processes:', jax.process_count())\n"
    )


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("address", ["10.0.0.1:8476", "node-1.cluster:80", "[::1]:1234"])
def test_place_is_understood(address):
    assert parse_place(f"{address}, 16,3") == Place(address, num_processes=16, process_id=3)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("yes", "--distributed=yes has 1 of three parts: give --distributed=HOST:PORT,N,ID"),
        ("host:80,2", "has 2 of three parts"),
        ("host,2,0", "'host' is not HOST:PORT"),
        ("ho st:80,2,0", "'ho st:80' is not HOST:PORT"),
        ("host:99999,2,0", "no port 99999"),
        ("host:80,two,0", "'two' is not a number"),
        ("host:80,2,-1", "'-1' is not a number"),
        ("host:80,2,2", "process 2 is not one of 2; the last part counts from 0 to 1"),
        ("host:80,0,0", "process 0 is not one of 0"),
    ],
)
def test_other_words_are_explained(flag, message):
    with pytest.raises(UserError, match=message):
        parse_place(flag)


@pytest.mark.parametrize(
    ("tasks", "gpus", "local", "per_task", "taken"),
    [
        ("8(x2)", "0,1,2,3,4,5,6,7", 3, None, [3]),
        ("1(x2)", "0,1,2,3,4,5,6,7", 0, None, list(range(8))),
        ("2", "0,1,2,3,4,5,6,7", 1, None, [4, 5, 6, 7]),
        ("8(x2)", "0", 3, "1", [0]),
        ("4", "0,1", 3, "2", [0, 1]),
        ("8(x2)", "", 3, None, None),
    ],
)
def test_slurm_tasks_share_the_gpus_of_their_node(tasks, gpus, local, per_task, taken):
    environ = {
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_LOCALID": str(local),
        "CUDA_VISIBLE_DEVICES": gpus,
    }
    if per_task:
        environ["SLURM_GPUS_PER_TASK"] = per_task
    assert slurm_devices(environ) == taken
    assert slurm_devices({}) is None


@pytest.mark.parametrize("flag", ["auto", "off"])
def test_alone_without_a_cluster(flag):
    result = in_a_process(connecting(flag))
    assert (result.returncode, result.stdout) == (0, "processes: 1\n"), result.stderr
    assert result.stderr == ""


def test_slurm_is_found_by_itself(port):
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "JAX_COORDINATOR_PORT": str(port),
    }
    result = in_a_process(connecting("auto", timeout_s=2), **slurm)
    assert result.returncode == 2
    assert "after 2 s, the other processes that the scheduler names have not" in result.stderr
    alone = in_a_process(connecting("auto"), **{**slurm, "SLURM_NTASKS": "1"})
    assert (alone.returncode, alone.stdout) == (0, "processes: 1\n"), alone.stderr


@pytest.mark.parametrize(
    ("process_id", "message"),
    [
        (0, "after 2 s, not all of the 2 processes have come to 127.0.0.1:{port}: start one"),
        (1, "after 2 s, nothing answers at 127.0.0.1:{port}, where process 0 must be: check"),
    ],
)
def test_others_that_do_not_come(port, process_id, message):
    flag = f"127.0.0.1:{port},2,{process_id}"
    result = in_a_process(connecting(flag, timeout_s=2))
    assert result.returncode == 2
    assert message.format(port=port) in result.stderr
    assert "--distributed=off" in result.stderr
    assert "Traceback" not in result.stderr


def leaving(flag, after_s, at_most_s):
    return (
        "import sys, time\n"
        "from shunted_jax.training.devices import distributed\n"
        f"distributed.LEAVE_SECONDS = {at_most_s}\n"
        f"distributed.connect({flag!r})\n"
        f"time.sleep({after_s})\n"
        "print('all is saved', flush=True)\n"
        "distributed.leave_together(143)\n"
    )


@pytest.mark.parametrize(("at_most_s", "takes_s"), [(60, 3), (1, 60)])
def test_first_process_waits_for_the_second_but_not_for_long(port, at_most_s, takes_s):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        flags = [f"127.0.0.1:{port},2,{index}" for index in (0, 1)]
        codes = [leaving(flags[0], 0, at_most_s), leaving(flags[1], takes_s, at_most_s)]
        first, second = pool.map(in_a_process, codes)
    assert first.returncode == 143, first.stderr
    waited = takes_s < at_most_s
    assert (second.returncode == 143) == waited, second.stderr
    assert (second.stdout == "all is saved\n") == waited


def test_port_that_is_taken():
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        result = in_a_process(connecting(f"127.0.0.1:{taken.getsockname()[1]},2,0"))
    assert "error: --distributed=127.0.0.1:" in result.stderr
    assert "is in use on this host: take another, the same for all processes" in result.stderr
    assert "Traceback" not in result.stderr
