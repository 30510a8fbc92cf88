"""Pickles read as data: no name in them is imported, and nothing that they ask for is called.

A pickle is a program for a small machine with a stack. `machine.py` runs it, and makes plain
containers and inert records; `constructors.py` has the few calls that weights need, each from plain
data to plain data. Files of PyTorch lay the numbers beside the pickle: `torch_zip.py` and
`streams.py` say where.
"""

from shunted_jax.convert.pickles.records import DamagedError, Global, Record, UnreadableError
from shunted_jax.convert.pickles.stored import Stored

__all__ = ["DamagedError", "Global", "Record", "Stored", "UnreadableError"]
