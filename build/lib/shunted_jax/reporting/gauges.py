"""How well a run uses its machine: waiting for data, arithmetic against the peak, memory."""

import logging
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from shunted_jax.config import Config, DataConfig
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.cost import count_macs
from shunted_jax.reporting.peaks import peak_flops

logger = logging.getLogger(__name__)

# The share of the time from which on waiting is worth a line in the log, and over how many steps.
_LONG_WAIT, _JUDGED_STEPS = 0.1, 20


class DataWait(Iterator):
    """Passes batches on, and measures how long the devices stood idle for want of them.

    A batch may come late while the devices still compute. That costs nothing, and is not counted:
    after each step, `watch` is given an array that the step computes.
    """

    def __init__(self, batches: Iterable[Any]):
        """Takes over `batches`."""
        self._batches = iter(batches)
        self._computing: jax.Array | None = None
        self._seconds, self._steps = 0.0, 0

    def __next__(self) -> Any:
        start = time.perf_counter()
        batch = next(self._batches)
        # Devices that are idle now were idle for some of the wait. Nobody knows how much of it: all
        # of it counts.
        if self._computing is None or self._computing.is_ready():
            self._seconds += time.perf_counter() - start
        self._steps += 1
        return batch

    def watch(self, result: jax.Array) -> None:
        """Takes an array that the step just started will compute."""
        self._computing = result

    def take(self) -> tuple[float, int]:
        """Returns the seconds waited and the batches passed on since the last call."""
        taken = self._seconds, self._steps
        self._seconds, self._steps = 0.0, 0
        return taken


class Gauges:
    """Says what the machine was doing since the metrics were last written."""

    def __init__(
        self, data_wait: DataWait, data: DataConfig, least_step_seconds: float | None = None
    ):
        """Starts with nothing measured.

        Args:
            data_wait: around the batches that are trained on.
            data: how they are read.
            least_step_seconds: as the function of this name returns it.
        """
        self._data_wait = data_wait
        self._data = data
        self._least_step_seconds = least_step_seconds
        self._judged = [0.0, 0.0, 0]  # seconds waited, seconds and steps in all
        self._started, self._warned = False, False

    def read(self, step_seconds: float) -> dict[str, float]:
        """Returns numbers by name; warns, once, where much of the time goes in waiting for data.

        Args:
            step_seconds: the time a step took, on average since the last call.
        """
        waited, steps = self._data_wait.take()
        self._judge_wait(waited, step_seconds * steps, steps)
        readings = {"data_wait_share": min(1.0, waited / (step_seconds * steps)) if steps else 0.0}
        if self._least_step_seconds is not None:
            readings["model_flop_utilization"] = self._least_step_seconds / step_seconds
        return readings | memory_gib()

    def _judge_wait(self, waited: float, seconds: float, steps: int) -> None:
        if not self._started:
            self._started = True  # but so was the pipeline only now
            return
        window = (waited, seconds, steps)
        self._judged = [old + new for old, new in zip(self._judged, window, strict=True)]
        waited, seconds, steps = self._judged
        if steps < _JUDGED_STEPS:
            return
        self._judged = [0.0, 0.0, 0]
        if waited <= _LONG_WAIT * seconds or self._warned:
            return
        self._warned = True
        logger.warning(
            "%.0f %% of the last %d steps went in waiting for images: raise "
            "config.data.num_workers (now %d; this host has %d processors) or, where files are "
            "slow to read, config.data.num_threads (now %d)",
            *(100 * waited / seconds, steps, self._data.num_workers, _processors()),
            self._data.num_threads,
        )


def least_step_seconds(
    model: ShuntedTransformer, config: Config, devices: Sequence[jax.Device]
) -> float | None:
    """Returns how long a training step would take at the devices' peak; None where none is known.

    Args:
        model: the network.
        config: of the run; the size of its images and batches is used.
        devices: all that it is trained on, of one kind.
    """
    peak = peak_flops(devices[0])
    if peak is None:
        return None
    flops = training_flops(model, config.data.image_size, config.batch_size)
    return flops / (peak * len(devices))


def training_flops(model: ShuntedTransformer, image_size: int, batch_size: int) -> int:
    """Returns the operations of one step, by the model's own count.

    Multiply-accumulates of convolutions and matrix products are two operations each, and the
    backward pass takes twice those of the forward pass. What is computed again to save memory, and
    everything that is not a product, does not count: the same network has the same figure however
    it is compiled.

    Args:
        model: the network.
        image_size: pixels on each side.
        batch_size: images in a step, over all devices.
    """
    return 3 * 2 * count_macs(model, image_size) * batch_size


def memory_gib() -> dict[str, float]:
    """Returns memory in use and at its highest so far, in GiB, of this process and its devices.

    Of the devices, the fullest counts. Backends that do not tell have no entry: the CPU's is one.
    """
    gib = 2**30
    readings = {}
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    for name, key in (("device", "bytes_in_use"), ("device_peak", "peak_bytes_in_use")):
        if all(key in of_device for of_device in stats):
            readings[f"memory/{name}_gib"] = max(of_device[key] for of_device in stats) / gib
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    readings["memory/host_peak_gib"] = peak * (1 if sys.platform == "darwin" else 1024) / gib
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text().split()[1])
        readings["memory/host_gib"] = pages * os.sysconf("SC_PAGE_SIZE") / gib
    return readings


def _processors() -> int:
    # Those this process may use, which in a container or a job are fewer than there are.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
