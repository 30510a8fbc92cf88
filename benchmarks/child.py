"""A process with a time limit that answers in lines of JSON.

Whatever becomes of it, the one that started it goes on: a crash, a hang and a limit that is up are
all a `ChildError` with one line that says why.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence

# What a traceback ends with; libraries print more below it.
_ERROR = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b")
_SHOWN = 25


class ChildError(Exception):
    """A child ended, or was ended, before it answered."""


class Child:
    """One process; a context manager that leaves none of it behind."""

    def __init__(
        self, command: Sequence[str], seconds: float, env: Mapping[str, str] | None = None
    ):
        """Starts it.

        Args:
            command: what to run; its standard output is lines of JSON.
            seconds: after which it is killed, with all that it started.
            env: variables to set besides this process's own.
        """
        self._seconds = seconds
        self._out_of_time = False
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(env or {})},
            process_group=0,  # so that those that it starts can be killed with it
            text=True,
        )
        self._timer = threading.Timer(seconds, self._end_it)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def ask(self, request: str) -> dict:
        """Writes a line to it, and returns its answer.

        Raises:
            ChildError: it ended instead.
        """
        with contextlib.suppress(OSError):  # it is gone, which is what its answer says, too
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict:
        """Waits for its next line, and returns it.

        Raises:
            ChildError: it ended instead.
        """
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise ChildError(self._why())
        return _parsed(line)

    def answers(self) -> Iterator[dict]:
        """Yields its lines until it ends.

        Raises:
            ChildError: it ended with an error or was out of time.
        """
        for line in self._process.stdout:
            yield _parsed(line)
        if self._process.wait() != 0:
            raise ChildError(self._why())

    def errors(self) -> str:
        """Returns the last lines of what it wrote to standard error."""
        self._errors.seek(0)
        return "".join(self._errors.readlines()[-_SHOWN:])

    def close(self) -> None:
        """Ends it, with all that it started."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._timer.cancel()
        self._kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _end_it(self) -> None:
        self._out_of_time = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _why(self) -> str:
        if self._out_of_time:
            return f"out of its {self._seconds:.0f} s"
        lines = [line for line in self.errors().splitlines() if line.strip()]
        named = [line for line in lines if _ERROR.match(line)]
        status = self._process.returncode
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        return f"{ended}: {(named or lines or ['it said nothing'])[-1].strip()[:300]}"


def _parsed(line: str) -> dict:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ChildError(f"it wrote {line[:80]!r}, which is no JSON") from error


def python(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]
