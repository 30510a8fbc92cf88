"""Checkpoints of PyTorch and others to Flax and back, strict both ways; read without torch."""

from shunted_jax.convert.in_memory import from_torch
from shunted_jax.convert.state_dict import to_torch

__all__ = ["from_torch", "to_torch"]
