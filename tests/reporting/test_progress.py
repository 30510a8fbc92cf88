"""A bar on a terminal, lines elsewhere, the same numbers in both."""

import contextlib
import fcntl
import logging
import os
import pty
import struct
import sys
import termios

import pytest

from shunted_jax.reporting import progress


@pytest.fixture
def clock(monkeypatch):
    """Returns a list whose only entry is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_lines_without_a_terminal(clock, caplog):
    caplog.set_level(logging.INFO, logger="shunted_jax")
    with progress.Progress(first_step=10, last_step=110, batch_size=32) as shown:
        clock[0] += 5
        assert shown.update(20, 1.25) == {"images_per_second": 64.0, "step_seconds": 0.5}
        shown.say("epoch 1")
        clock[0] += 1000
        shown.resume_clock()
        clock[0] += 2
        assert shown.update(30, 1.0)["step_seconds"] == 0.2
    assert [record.getMessage() for record in caplog.records] == [
        "at 0.5 s a step, the 90 steps to come take about 0:00:45, and evaluations besides",
        "step 20 of 110: loss 1.250, 64 images/s, 0:00:45 left",
        "epoch 1",
        # 16 seconds of steps, and four more pauses like the one there was.
        "step 30 of 110: loss 1.000, 160 images/s, 1:06:56 left",
    ]


@pytest.mark.parametrize("bar", [True, False])
def test_no_bar_where_none_is_wanted(clock, monkeypatch, bar):
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    with progress.Progress(first_step=0, last_step=4, batch_size=32, bar=bar) as shown:
        assert shown._bar.disable != bar


@pytest.mark.parametrize(("lines", "bar"), [(40, True), (0, False)])
def test_bar_on_a_terminal_that_knows_its_size(clock, monkeypatch, lines, bar):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 100, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.Progress(first_step=0, last_step=4, batch_size=32) as shown:
            clock[0] += 1
            shown.update(1, 1.25)
            shown._bar.refresh()
    text = _read_to_the_end(ours)
    assert ("1 of 4 steps, loss 1.250, 32 images/s, 0:00:03 left" in text) == bar


def _read_to_the_end(controller: int) -> str:
    """Returns all that was written to a pseudo-terminal whose other end is closed."""
    # One read may return a part only, and Linux says EIO where a pipe would say that it has ended.
    parts = []
    with os.fdopen(controller, "rb", buffering=0) as stream, contextlib.suppress(OSError):
        while part := stream.read(10_000):
            parts.append(part)
    return b"".join(parts).decode()
