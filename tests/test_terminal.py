"""Printing a name never ends a program, whatever the terminal's encoding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TERMINAL = Path(__file__).parents[1] / "shunted_jax" / "terminal.py"

PROGRAM = """
import os, runpy, sys
runpy.run_path(sys.argv[1])["print_any_name"]()
print(os.fsdecode(b"caf\\xe9"), "caf\\u00e9", "\\u65e5")
"""


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", rb"caf\udce9 caf\xe9 \u65e5"),
        ("utf-8", "caf\\udce9 café 日".encode()),
        ("latin-1", b"caf\\udce9 caf\xe9 \\u65e5"),
        ("utf-8:surrogateescape", b"caf\xe9 caf\xc3\xa9 \xe6\x97\xa5"),  # as it was asked for
    ],
)
def test_any_name_is_printed(encoding, printed):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, TERMINAL],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (printed + b"\n", b"")
