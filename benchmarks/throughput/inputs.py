"""The images and labels that both sides get."""

import numpy as np

from benchmarks.throughput.cases import Case

CLASSES = 1000


def draw(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Returns images [batch, size, size, 3], float32, and labels [batch]."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((case.batch, case.size, case.size, 3), np.float32)
    return images, rng.integers(CLASSES, size=case.batch)
