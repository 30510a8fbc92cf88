"""What is said of the machine is true of it, or not said."""

import logging
import types

import jax
import pytest

from shunted_jax.config import Config, DataConfig
from shunted_jax.models import create_model
from shunted_jax.reporting import gauges
from shunted_jax.reporting.gauges import (
    DataWait,
    Gauges,
    least_step_seconds,
    memory_gib,
    training_flops,
)
from shunted_jax.reporting.peaks import peak_bandwidth, peak_flops
from tests.models.test_shunted import GMACS


@pytest.fixture
def clock(monkeypatch):
    """Returns a list whose only entry is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(gauges.time, "perf_counter", lambda: now[0])
    return now


def step_that(finished):
    return types.SimpleNamespace(is_ready=lambda: finished)


def device(kind, **fields):
    return types.SimpleNamespace(device_kind=kind, **fields)


def least_seconds_on(kind):
    model, config = create_model("shunted_t", num_classes=1000), Config(batch_size=1024)
    return least_step_seconds(model, config, [device(kind)] * 8)


def slow_batches(clock, seconds):
    while True:
        clock[0] += seconds
        yield "batch"


def test_waiting_counts_only_while_the_devices_are_idle(clock):
    batches = DataWait(slow_batches(clock, 2.0))
    assert next(batches) == "batch"  # nothing computes yet
    batches.watch(step_that(finished=False))
    next(batches)
    assert batches.take() == (2.0, 2)
    batches.watch(step_that(finished=True))
    next(batches)
    assert batches.take() == (2.0, 1)
    assert batches.take() == (0.0, 0)


def test_real_steps_can_be_watched():
    batches = DataWait([1, 2])
    next(batches)
    batches.watch(jax.numpy.zeros(()).block_until_ready())
    next(batches)
    seconds, steps = batches.take()
    assert 0 <= seconds < 60
    assert steps == 2


def test_long_waits_are_explained_once(clock, caplog):
    batches = DataWait(slow_batches(clock, 1.0))
    readings = Gauges(batches, DataConfig())

    def read(steps):
        for _ in range(steps):
            next(batches)
        return readings.read(step_seconds=4.0)["data_wait_share"]

    assert read(50) == 0.25  # the pipeline was starting: not a word
    assert read(19) == 0.25  # too few to judge by
    assert not caplog.records
    assert read(1) == 0.25
    assert read(50) == 0.25
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(
        "25 % of the last 20 steps went in waiting for images: raise config.data.num_workers (now 0"
    )


def test_utilization_is_of_the_paper_count_and_all_devices():
    flops = training_flops(create_model("shunted_t", num_classes=1000), 224, batch_size=1024)
    assert flops == pytest.approx(6 * GMACS["shunted_t"] * 1e9 * 1024, rel=3e-3)
    batches = DataWait(iter("ab"))
    next(batches)
    gauges = Gauges(batches, DataConfig(), least_seconds_on("NVIDIA A100-SXM4-80GB"))
    utilization = gauges.read(step_seconds=0.05)["model_flop_utilization"]
    assert utilization == pytest.approx(flops / 0.05 / (8 * 312e12))


@pytest.mark.parametrize(
    ("known", "tflops"),
    [
        (device("NVIDIA H100 80GB HBM3"), 989.5),
        (device("NVIDIA H100 PCIe"), 756.5),
        (device("TPU v3", num_cores=1), 61.5),  # half a chip
        (device("TPU v4", num_cores=2), 275),  # a whole one
        (device("TPU v4", num_cores=1), 137.5),
        (device("TPU v5 lite", num_cores=1), 197),
    ],
)
def test_peaks(known, tflops):
    assert peak_flops(known) == tflops * 1e12


def test_memory_is_shared_by_a_chips_cores():
    assert peak_bandwidth(device("TPU v3", num_cores=1)) == 450e9
    assert peak_bandwidth(device("TPU v5", num_cores=2)) == 2765e9
    assert peak_bandwidth(device("TPU v5", num_cores=1)) == 2765e9 / 2
    assert peak_bandwidth(device("TPU v5 lite", num_cores=1)) == 819e9
    for unknown in ("cpu", "NVIDIA H100 PCIe", "TPU v9", "TPU v4"):
        assert peak_bandwidth(device(unknown)) is None


@pytest.mark.parametrize(
    "kind", ["cpu", "NVIDIA H100 NVL", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "TPU v9", "TPU v4"]
)
def test_unknown_devices_have_no_peak(kind):
    assert peak_flops(device(kind)) is None
    assert least_seconds_on(kind) is None
    batches = DataWait(iter("a"))
    next(batches)
    assert "model_flop_utilization" not in Gauges(batches, DataConfig()).read(step_seconds=1.0)


def test_memory_of_the_fullest_device(monkeypatch):
    stats = [{"bytes_in_use": n * 2**30, "peak_bytes_in_use": 2 * n * 2**30} for n in (1, 3)]
    devices = [types.SimpleNamespace(memory_stats=lambda one=one: one) for one in stats]
    monkeypatch.setattr(gauges.jax, "local_devices", lambda: devices)
    read = memory_gib()
    assert (read["memory/device_gib"], read["memory/device_peak_gib"]) == (3, 6)


def test_memory_of_the_process_where_devices_do_not_tell():
    read = memory_gib()
    assert not any(name.startswith("memory/device") for name in read)
    assert 0.05 < read["memory/host_gib"] <= read["memory/host_peak_gib"] * 1.01 < 1000
