"""Checkpoints on disk or in a bucket, by Orbax. Only `adapters/orbax.py` knows it besides.

A checkpoint is a folder of items, committed as a whole or not at all: `params`, `batch_stats` and
`meta` (JSON, see `metadata.py`). Converted weights are one such folder (`weights.py`). A run has
one for each step that it saved (`run_checkpoints.py`). There, the item `train` holds the step, the
optimizer's state and what else the run's state has. Where the run averages its parameters, the
average is the item `ema_params`. Parameters are items of their own so that they can be read without
the optimizer's state, which is twice their size.
"""

from shunted_jax.checkpoints.metadata import (
    BEST_METRIC,
    FORMAT_VERSION,
    Metadata,
    Origin,
    RunRecord,
)
from shunted_jax.checkpoints.run_checkpoints import RunCheckpoints
from shunted_jax.checkpoints.weights import Weights, check_free, read_weights, write_weights

__all__ = [
    "BEST_METRIC",
    "FORMAT_VERSION",
    "Metadata",
    "Origin",
    "RunCheckpoints",
    "RunRecord",
    "Weights",
    "check_free",
    "read_weights",
    "write_weights",
]
