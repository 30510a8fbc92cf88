"""SIGTERM noticed between steps."""

import os
import signal

import jax

from shunted_jax.config import MeshConfig
from shunted_jax.training.devices.preemption import StopRequest
from shunted_jax.training.devices.sharding import make_mesh


def test_signal_is_noted_and_the_handler_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest(make_mesh(MeshConfig())) as stop:
        assert not stop.agreed()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.agreed()
            assert stop.agreed_at_once()
    assert signal.getsignal(signal.SIGTERM) is before


def test_several_processes_stop_two_steps_after_the_first_one_knows(monkeypatch):
    # How it agrees among real processes is in the multi-host tests; this is when.
    with StopRequest(make_mesh(MeshConfig())) as stop:
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        assert [stop.agreed() for _ in range(4)] == [False] * 4
        os.kill(os.getpid(), signal.SIGTERM)
        assert [stop.agreed() for _ in range(3)] == [False, False, True]
        assert stop.agreed_at_once()
