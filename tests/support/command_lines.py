"""Programs that are run as a person runs them, many for the price of one import."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# Importing takes most of the time of a command line that ends in a sentence: it is done once, and
# each command line has a process of its own after it.
_PROGRAM = """
import importlib
import json
import os
import runpy
import sys
import traceback

import shunted_jax.commands.report
import shunted_jax.commands.convert
import shunted_jax.training.scoring

command_lines = json.loads(sys.argv[1])
for program, *_ in command_lines:
    if not program.endswith(".py"):
        importlib.import_module(program)
statuses = []
for number, (program, *arguments) in enumerate(command_lines):
    os.mkdir(str(number))
    child = os.fork()
    if not child:
        status = 0
        try:
            for stream, end in ((sys.stdout, "out"), (sys.stderr, "err")):
                os.dup2(os.open(f"{number}.{end}", os.O_CREAT | os.O_WRONLY), stream.fileno())
            os.chdir(str(number))
            sys.argv = [program, *arguments]
            if program.endswith(".py"):
                runpy.run_path(program, run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
        except SystemExit as error:
            status = error.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""


@dataclasses.dataclass(frozen=True)
class End:
    """How a command line ended: its status, what it said, and the folder that it ran in."""

    status: int
    output: str
    errors: str
    folder: Path


def run_each(folder: Path, command_lines: Sequence[Sequence[str]], **environment: str) -> list[End]:
    """Runs command lines one after another, each in a folder of its own.

    Args:
        folder: where to make these folders.
        command_lines: each a program, its path or the name of a module, and its arguments.
        **environment: variables that are otherwise than here.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(command_lines)],
        cwd=folder,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(REPOSITORY),
            "XLA_FLAGS": "",
            **environment,
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    return [
        End(
            status,
            (folder / f"{number}.out").read_text(),
            (folder / f"{number}.err").read_text(),
            folder / str(number),
        )
        for number, status in enumerate(json.loads(done.stdout.splitlines()[-1]))
    ]
