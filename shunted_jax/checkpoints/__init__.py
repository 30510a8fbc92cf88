"""Checkpoints on disk or in a bucket: the only package that knows Orbax.

A checkpoint is a folder of items, committed as a whole or not at all: `params`, `batch_stats` and
`meta` (JSON). Converted weights are one such folder (`weights.py`). A run (`run.py`) has one for
each step that it saved, with the item `train` (step, optimizer state and what else its state holds)
and, where it averages its parameters, `ema_params`. Parameters are items of their own so that they
can be read without the optimizer's state, twice their size.
"""

from shunted_jax.checkpoints.folders import BEST_METRIC, FORMAT_VERSION
from shunted_jax.checkpoints.run_checkpoints import RunCheckpoints
from shunted_jax.checkpoints.weights import Weights, check_free, read_weights, write_weights

__all__ = [
    "BEST_METRIC",
    "FORMAT_VERSION",
    "RunCheckpoints",
    "Weights",
    "check_free",
    "read_weights",
    "write_weights",
]
