"""Who may write into a folder: one process, which says who it is, until it ends or is gone.

A lock is a file, or an object in a bucket. Two things in it are atomic: it is made only where there
is none, and what is taken away is what was looked at. Whoever finds it asks whether its owner still
lives:

- on this machine, the kernel knows: by the lock that it keeps on the file (`folder.py`), or by the
  process's number and start (`owner.py`);
- elsewhere, the owner renews the file every `BEAT_SECONDS`. Whoever waits sees it change, or, by a
  clock of his own, not change for `STALE_SECONDS` (`lock.py`). No two clocks are compared.
"""

from shunted_jax.locks.lock import Lock, alone_at

__all__ = ["Lock", "alone_at"]
