"""What the machine lacks, brought along as wheels."""

import subprocess
import sys
from pathlib import Path


def install(wheels: Path, site: Path) -> Path | None:
    """Installs wheels into a folder, without a network, and returns it.

    Args:
        wheels: the folder that `make gpu-wheels` fills.
        site: the folder to install into.

    Returns:
        None where there are no wheels. One that cannot be installed is left out, which is printed.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        return None
    if not _installed(found, site):
        for wheel in found:
            if not _installed([wheel], site):
                print(f"not installed: {wheel.name}", file=sys.stderr)
    return site


def _installed(wheels: list[Path], site: Path) -> bool:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-compile", "--disable-pip-version-check", "--target", str(site)]
    try:
        return subprocess.run([*command, *map(str, wheels)], timeout=60).returncode == 0
    except (subprocess.SubprocessError, OSError):
        return False
