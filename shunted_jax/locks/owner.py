"""Who holds a lock: what its file says of a process, and whether that process still lives."""

import dataclasses
import datetime
import functools
import json
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# How schedulers tell a job its number, and what people call it.
_JOBS = {"SLURM_JOB_ID": "Slurm job", "PBS_JOBID": "PBS job", "LSB_JOBID": "LSF job"}


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that holds a lock.

    Attributes:
        id: of this lock alone; no two owners have the same.
        host: its name, which containers and pods may share.
        pid: of the process, as its container counts.
        since: when it took the lock, in UTC by its host's clock; for people.
        job: what a scheduler calls it; None where there is none.
        boot: of the running kernel; None where that does not say.
        pid_namespace: in which `pid` counts.
        started: when the process did, in ticks since the boot.
        device: where the kernel keeps a lock on the file for this owner, the file's device.
    """

    id: str
    host: str = "of unknown name"
    pid: int = 0
    since: str = "an unknown time"
    job: str | None = None
    boot: str | None = None
    pid_namespace: int | None = None
    started: int | None = None
    device: int | None = None

    def to_json(self) -> str:
        """Returns what a lock's file holds."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def describe(self) -> str:
        """Returns who it is, for a person."""
        job = f" ({self.job})" if self.job else ""
        return f"process {self.pid} on host {self.host}{job}, since {self.since}"

    def on_this_machine(self) -> bool:
        """Returns whether the process is, or was, under the kernel that runs here."""
        return self.boot is not None and self.boot == _boot()

    def lives(self) -> bool | None:
        """Returns whether the process is there; None where that cannot be told from here."""
        # In a container, a number is another process.
        if not self.on_this_machine() or self.pid_namespace != _pid_namespace():
            return None
        if self.pid_namespace is None or self.started is None:
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # another user's
        try:
            state, started = _state_and_start(self.pid)
        except OSError:
            return None  # other users' processes may be hidden
        # A number is given to another process some time after the first one's end.
        return started == self.started and state not in "ZX"


def this_process(environ: Mapping[str, str] = os.environ) -> Owner:
    """Returns this process as a new owner."""
    try:
        _, started = _state_and_start(os.getpid())
    except OSError:
        started = None
    return Owner(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        since=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        job=job_of(environ),
        boot=_boot(),
        pid_namespace=_pid_namespace(),
        started=started,
    )


def owner_in(content: bytes) -> Owner | None:
    """Returns the owner that a lock's file names; None where it names none, or not yet."""
    try:
        values: dict[str, Any] = json.loads(content)
        known = {field.name for field in dataclasses.fields(Owner)}
        return Owner(**{name: value for name, value in values.items() if name in known})
    except (ValueError, TypeError, AttributeError):
        return None


def job_of(environ: Mapping[str, str]) -> str | None:
    """Returns what the scheduler that started this process calls it; None without one."""
    for name, kind in _JOBS.items():
        if environ.get(name):
            return f"{kind} {environ[name]}"
    if "KUBERNETES_SERVICE_HOST" in environ and environ.get("HOSTNAME"):
        return f"Kubernetes pod {environ['HOSTNAME']}"
    return None


@functools.cache
def _boot() -> str | None:
    """Returns a name of the running kernel that no other has; None where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> int | None:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None


def _state_and_start(pid: int) -> tuple[str, int]:
    """Returns a process's state, a letter, and its start in ticks since the boot."""
    # A program's name, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


@dataclasses.dataclass(frozen=True)
class Found:
    """A lock that another one holds.

    Attributes:
        owner: who; None where the file does not say.
        mark: is another one after each sign of life.
        lives: whether the owner does; None where only signs of life can tell.
    """

    owner: Owner | None
    mark: Any
    lives: bool | None
