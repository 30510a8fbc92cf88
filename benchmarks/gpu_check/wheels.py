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
        None where there are no wheels, or where they cannot be installed, which is printed.
    """
    found = sorted(map(str, wheels.glob("*.whl")))
    if not found:
        return None
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-compile", "--disable-pip-version-check", "--target", str(site), *found]
    try:
        subprocess.run(command, check=True, timeout=60)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"the wheels were not installed: {error}", file=sys.stderr)
        return None
    return site
