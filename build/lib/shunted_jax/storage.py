"""Where runs and checkpoints lie: a folder here, or an address such as gs://bucket/run."""

import importlib.util
import os

from etils import epath

from shunted_jax.adapters.buckets import list_each_time
from shunted_jax.errors import UserError, in_a_line

# What `pip install` takes for them.
EXTRA = "shunted-jax[gcs]"


def in_bucket(path: str | os.PathLike) -> bool:
    """Returns whether `path` is an address such as gs://bucket/run."""
    return "://" in os.fspath(path)


def reachable(path: str | os.PathLike) -> epath.Path:
    """Returns `path`, as one reads and writes folders and buckets alike.

    It asks whether a bucket is there. From the first bucket on, gcsfs lists folders anew each time:
    fsspec's configuration is changed for this process.

    Raises:
        UserError: it is an address of which nothing can be read here.
    """
    if not in_bucket(path):
        return epath.Path(path)
    scheme, _, rest = os.fspath(path).partition("://")
    bucket = rest.partition("/")[0]
    if scheme != "gs" or not bucket:
        raise UserError(f"{path}: of addresses, those such as gs://bucket/run are understood")
    if not any(map(importlib.util.find_spec, ("gcsfs", "tensorflow"))):
        raise UserError(f"{path}: to read and write buckets, pip install '{EXTRA}'")
    list_each_time()
    try:
        there = epath.Path(f"gs://{bucket}").exists()
    except Exception as error:  # of sockets, HTTP, credentials: whatever stands in between
        raise UserError(
            f"gs://{bucket} cannot be reached: {in_a_line(error)}; `gcloud auth "
            "application-default login` gives this machine a name that the bucket may know"
        ) from error
    if not there:
        raise UserError(f"{path}: there is no bucket {bucket!r} that can be seen from here")
    return epath.Path(path)


def absolute(path: str | os.PathLike) -> epath.Path:
    """Returns `path` as Orbax takes it, which refuses relative ones.

    Raises:
        UserError: it is in a bucket that cannot be reached.
    """
    # A bucket's paths have nothing that they could be relative to.
    return reachable(path) if in_bucket(path) else epath.Path(path).absolute()
