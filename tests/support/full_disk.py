"""A disk that takes no more, as far as this process can tell."""

import contextlib
import resource


@contextlib.contextmanager
def largest_file(size):
    """Stands in for a full disk: no file of this process can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
