"""gcsfs and fsspec, by which folders in buckets are listed, and what else speaks to a bucket."""

_SPEAK_TO_BUCKETS = ("gcsfs", "aiohttp", "google", "requests")


def list_each_time() -> None:
    """Has gcsfs keep no lists of folders, as others write there, too: tensorstore for one.

    This changes fsspec's configuration for this process, unless it says something of it already.
    """
    try:
        import fsspec
    except ImportError:
        return  # TensorFlow reads, which keeps no lists
    fsspec.config.conf.setdefault("gs", {}).setdefault("use_listings_cache", False)


def is_of_bucket(error: BaseException) -> bool:
    """Returns whether a bucket raised `error`, or what stands between it and this host."""
    package = type(error).__module__.partition(".")[0]
    # gcsfs raises an OSError without a number, too, and tensorstore names the address.
    without_number = isinstance(error, OSError) and error.errno is None
    return package in _SPEAK_TO_BUCKETS or without_number or "gs://" in str(error)
