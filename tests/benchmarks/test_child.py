"""A child's end, however it comes, is one line that says why."""

import os
import signal
import sys
import time

import pytest

from benchmarks.child import Child, ChildError


def start(code, seconds=30):
    return Child([sys.executable, "-c", code], seconds)


def test_answers_come_one_by_one():
    with start(
        "for line in iter(input, 'end'): print('{\"twice\": %d}' % (2 * int(line)))"
    ) as child:
        assert child.ask("2") == {"twice": 4}
        assert child.ask("3") == {"twice": 6}


def test_an_error_is_its_line_not_what_libraries_print_below_it():
    code = (
        "import sys, atexit; atexit.register(print, '-----', file=sys.stderr); raise OSError('no')"
    )
    with start(code) as child, pytest.raises(ChildError, match=r"^status 1: OSError: no$"):
        child.answer()


def test_a_crash_says_its_signal():
    crash = "import os; os.kill(os.getpid(), 9)"
    with start(crash) as child, pytest.raises(ChildError, match=r"^signal 9: it said nothing$"):
        child.ask("go on")


def test_rows_before_an_error_come_through():
    with start("print('{\"a\": 1}'); raise SystemExit('enough')") as child:
        answers = child.answers()
        assert next(answers) == {"a": 1}
        with pytest.raises(ChildError, match=r"^status 1: enough$"):
            next(answers)


def test_what_is_no_json_is_said():
    with start("print('hello')") as child, pytest.raises(ChildError, match="'hello"):
        child.answer()


def test_time_is_up_for_all_that_it_started():
    code = (
        "import subprocess, sys, time;"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('{\"pid\": %d}' % other.pid, flush=True); time.sleep(60)"
    )
    before = time.monotonic()
    with start(code, seconds=3) as child:
        pid = child.answer()["pid"]
        with pytest.raises(ChildError, match=r"^out of its 3 s$"):
            child.answer()
    assert time.monotonic() - before < 20
    deadline = time.monotonic() + 10
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_closing_ends_it_at_once_where_it_waits_for_more():
    child = start("import sys; sys.stdin.read()")
    child.close()
    with pytest.raises(ProcessLookupError):
        os.killpg(child._process.pid, signal.SIGTERM)
