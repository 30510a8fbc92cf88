"""Several processes that train as one: how they find each other, and which of them speaks.

JAX finds the others by itself where a scheduler says who they are: on TPU pods, under Slurm and
Open MPI, and on Kubernetes. Elsewhere the command line says it, and a single process is what is
left.
"""

import dataclasses
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from typing import NoReturn

import jax

from shunted_jax.adapters.jax import found_no_cluster
from shunted_jax.errors import UserError

logger = logging.getLogger(__name__)

HELP = (
    "How the processes of a run find each other: auto (TPU pods, Slurm, Open MPI, Kubernetes), off "
    "(a single process), or HOST:PORT,N,ID, the address of process 0, how many there are, and "
    "which of them, from 0, this is."
)

# Hosts of a pod may start minutes apart.
TIMEOUT_SECONDS = 300

# How long a process waits for the others at its end. A machine that is taken away leaves 25 to 30
# seconds, a part of which the last save has used.
LEAVE_SECONDS = 15


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process stands among the others.

    Attributes:
        coordinator: HOST:PORT, where process 0 waits for the others.
        num_processes: how many there are.
        process_id: which of them this is, from 0.
    """

    coordinator: str
    num_processes: int
    process_id: int


def parse_place(flag: str) -> Place:
    """Returns what HOST:PORT,N,ID says.

    Raises:
        UserError: it says something else.
    """
    wanted = "give --distributed=HOST:PORT,N,ID (as in 10.0.0.1:8476,2,0), auto, or off"
    parts = [part.strip() for part in flag.split(",")]
    if len(parts) != 3:
        raise UserError(f"--distributed={flag} has {len(parts)} of three parts: {wanted}")
    address, *numbers = parts
    if not (match := re.fullmatch(r"([\w.-]+|\[[\da-fA-F:]+\]):(\d{1,5})", address)):
        raise UserError(f"--distributed={flag}: {address!r} is not HOST:PORT; {wanted}")
    if not 0 < int(match[2]) < 2**16:
        raise UserError(f"--distributed={flag}: there is no port {match[2]}; take 1024 to 65535")
    for number in numbers:
        if not re.fullmatch(r"\d+", number):
            raise UserError(f"--distributed={flag}: {number!r} is not a number; {wanted}")
    num_processes, process_id = map(int, numbers)
    if process_id >= num_processes:
        raise UserError(
            f"--distributed={flag}: process {process_id} is not one of {num_processes}; the "
            f"last part counts from 0 to {max(num_processes - 1, 0)}"
        )
    return Place(address, num_processes, process_id)


def connect(flag: str = "auto", timeout_s: float = TIMEOUT_SECONDS) -> None:
    """Joins the other processes of this run, if there are any; calling it again does nothing.

    To be called before anything asks JAX for a device. Where the others do not come, the process
    ends with a sentence and status 2.

    Args:
        flag: as `HELP` says.
        timeout_s: how long to wait for the others.

    Raises:
        UserError: the flag cannot be understood, or the processes cannot be connected.
    """
    if flag == "off" or jax.distributed.is_initialized():
        return
    place = None if flag == "auto" else parse_place(flag)
    if place is None and os.environ.get("SLURM_NTASKS") == "1":
        return  # an interactive shell, or one GPU: nobody to wait for
    if place is None:
        arguments = {"local_device_ids": slurm_devices(os.environ)}
    else:
        arguments = {
            "coordinator_address": place.coordinator,
            "num_processes": place.num_processes,
            "process_id": place.process_id,
        }
        logger.info(
            "process %d of %d: meeting the others at %s",
            place.process_id,
            place.num_processes,
            place.coordinator,
        )
        if place.process_id == 0:
            _check_port(place)
    # JAX ends the process when its own time is up, with a signal and a stack of C++ functions.
    watchdog = threading.Timer(timeout_s, _give_up, (place, timeout_s))
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(initialization_timeout=int(2 * timeout_s) + 60, **arguments)
    except ValueError as error:
        if place is None and found_no_cluster(error):
            return  # a single process
        raise _not_connected(error) from error
    except Exception as error:  # of sockets, HTTP, Kubernetes: whatever the cluster is asked by
        raise _not_connected(error) from error
    finally:
        watchdog.cancel()


def is_first_process() -> bool:
    """Returns whether this is the process that writes files and speaks for all."""
    return jax.process_index() == 0


def leave(status: int) -> NoReturn:
    """Ends this process without waiting for the others, which one that has failed would hold up."""
    _flush()
    if jax.distributed.is_initialized():
        os._exit(status)  # an orderly end waits for all processes to come to theirs
    sys.exit(status)


def leave_together(status: int) -> NoReturn:
    """Ends this process where all the others end for the same reason, after the same step.

    It waits until all are here: once process 0 is gone, JAX aborts those that are not through with
    their last save. Those that do not come within `LEAVE_SECONDS` it leaves behind.
    """
    if not jax.distributed.is_initialized():
        leave(status)
    _flush()
    watchdog = threading.Timer(LEAVE_SECONDS, os._exit, (status,))
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.shutdown()
    except Exception as error:  # of the connection: whatever happens here, the run is at its end
        logger.warning("the other processes have not come to their end: %s", error)
    _flush()
    os._exit(status)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def slurm_devices(environ: Mapping[str, str]) -> list[int] | None:
    """Returns which of the GPUs it sees a Slurm task takes; None leaves it to JAX.

    JAX gives each task the one GPU with the number that the task has on its node. Under a task that
    owns the node, all GPUs but one would idle. A task whose GPUs Slurm has picked would not find
    its own.

    Args:
        environ: the environment's variables.
    """
    tasks = re.match(r"\d+", environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    visible = len([name for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name])
    if not tasks or not visible or "SLURM_LOCALID" not in environ:
        return None
    num_tasks = int(tasks[0])
    if "SLURM_GPUS_PER_TASK" in environ or visible < num_tasks:
        return list(range(visible))  # Slurm has shared them out: a task sees none but its own
    each = visible // num_tasks
    first = int(environ["SLURM_LOCALID"]) * each
    return list(range(first, first + each))


def _check_port(place: Place) -> None:
    # JAX's own answer to a port that is taken may be a segmentation fault.
    port = int(place.coordinator.rsplit(":", 1)[1])
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a run before may just be over
        try:
            probe.bind(("", port))
            probe.listen()
        except OSError as error:
            raise UserError(
                f"--distributed={place.coordinator},...: port {port} is in use on this host: take "
                f"another, the same for all processes ({error.strerror})"
            ) from error


def _not_connected(error: Exception) -> UserError:
    return UserError(
        f"the processes of this run could not be connected: {error}; check the address and that "
        "its port is free on the host of process 0, name it as in "
        "--distributed=HOST:PORT,N,ID, or train in a single process with --distributed=off"
    )


def _give_up(place: Place | None, timeout_s: float) -> NoReturn:
    if place is None:
        who = "the other processes that the scheduler names have not come"
        remedy = "start the program on every host of the slice or job"
    elif place.process_id == 0 or _answers(place.coordinator):
        who = f"not all of the {place.num_processes} processes have come to {place.coordinator}"
        remedy = f"start one for each ID from 0 to {place.num_processes - 1}"
    else:
        who = f"nothing answers at {place.coordinator}, where process 0 must be"
        remedy = "check the address, that its port can be reached, and that process 0 runs"
    program = os.path.basename(sys.argv[0])
    print(
        f"{program}: after {timeout_s:.0f} s, {who}: {remedy}; --distributed=off trains in a "
        "single process",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def _answers(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True
