"""How long a compiled program takes on the device."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def milliseconds(program: Callable[..., Any], *arrays: Any, seconds: float = 0.05) -> float:
    """Returns the median of five rounds, each some calls that are enqueued and one wait.

    Args:
        program: compiled.
        *arrays: its arguments.
        seconds: that a round takes, roughly.
    """
    jax.block_until_ready(program(*arrays))
    start = time.perf_counter()
    jax.block_until_ready(program(*arrays))
    calls = max(1, min(100, int(seconds / max(1e-6, time.perf_counter() - start))))
    rounds = []
    for _ in range(5):
        start, result = time.perf_counter(), None
        for _ in range(calls):
            result = program(*arrays)
        jax.block_until_ready(result)
        rounds.append((time.perf_counter() - start) / calls)
    return 1e3 * float(np.median(rounds))
