"""A process that sees disks of its own: small ones, or such as cannot be written to."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
_MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'


def run_with_mounts(
    mounts: Mapping[str, str], command: Sequence[str]
) -> subprocess.CompletedProcess:
    """Runs `command` with this program, where memory is mounted as disks; it has to end well.

    Skips the test where nothing can be mounted.

    Args:
        mounts: options of each disk, such as "size=64k", by the folder where it is to be.
        command: a program and its arguments.
    """
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("nothing can be mounted here: that takes root and unshare")
    for folder, options in mounts.items():
        command = ["sh", "-c", _MOUNT, "sh", options, folder, *command]
    done = subprocess.run(
        ["unshare", "-m", *command],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
