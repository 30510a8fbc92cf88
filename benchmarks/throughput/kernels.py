"""Where a step's time goes on the device, kernel by kernel, from JAX's profiler."""

import collections
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.ahead_of_time import hlo

_TOP = 40


def profile(
    step: Callable[[], None], wait: Callable[[], None], number: int, program: str
) -> dict[str, Any]:
    """Returns the milliseconds of kernels in a step, the longest ones by name.

    Args:
        step: enqueues a step.
        wait: until all that was enqueued is done.
        number: of steps to profile.
        program: the text of the compiled program, which says what each kernel was made from.

    Raises:
        RuntimeError: the profiler did not see the GPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(number):
                step()
            wait()
        (path,) = Path(folder).rglob("*.xplane.pb")
        events = list(_device_events(jax.profiler.ProfileData.from_file(str(path))))
    sources = {
        _plain(name): instruction.source
        for computation in hlo.parse(program).computations.values()
        for name, instruction in computation.instructions.items()
        if instruction.source
    }
    found = collections.defaultdict(lambda: [0.0, 0, ""])
    for name, operation, nanoseconds in events:
        row = found[name]
        row[0] += nanoseconds / 1e6 / number
        row[1] += 1
        row[2] = row[2] or sources.get(_plain(operation or name), operation)
    rows = sorted(found.items(), key=lambda item: -item[1][0])
    return {
        "kernel_ms": sum(ms for _, (ms, _, _) in rows),
        "kernels_a_step": sum(count for _, (_, count, _) in rows) / number,
        "kernels": [
            {"name": name[:160], "ms": round(ms, 4), "calls": count / number, "source": source}
            for name, (ms, count, source) in rows[:_TOP]
        ],
    }


def _device_events(data: jax.profiler.ProfileData) -> Iterator[tuple[str, str, float]]:
    """Yields each kernel's name, the operation it belongs to and its nanoseconds.

    On a GPU those of its streams. A CPU has none, and its threads' events take their place, so that
    the whole way can be tried there.
    """
    planes = list(data.planes)
    on_gpu = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    if not on_gpu and jax.default_backend() == "gpu":
        raise RuntimeError("the profile has no GPU in it: may this user profile it (CUPTI)?")
    for plane in on_gpu or [plane for plane in planes if plane.name.startswith("/host:CPU")]:
        lines = list(plane.lines)
        kind = "stream" if on_gpu else "xla"
        chosen = [line for line in lines if kind in (line.name or "").lower()]
        for line in chosen or lines:
            for event in line.events:
                operation = str(dict(event.stats).get("hlo_op", ""))
                yield event.name, operation, event.duration_ns


def _plain(name: str) -> str:
    """Returns a name as kernels have it: XLA's instructions with their signs turned to `_`."""
    return re.sub(r"[.-]", "_", name)
