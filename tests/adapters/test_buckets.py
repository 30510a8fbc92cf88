"""What gcsfs raises, and that it lists anew once it is told to."""

import fsspec
import gcsfs
import gcsfs.retry
import pytest

from shunted_jax.adapters.buckets import is_of_bucket, list_each_time
from tests.adapters.contract import error_of, seen_with


@seen_with("gcsfs", "2026.10.1", "it took use_listings_cache from fsspec's configuration of gs")
def test_lists_are_not_kept(monkeypatch):
    monkeypatch.setattr(fsspec.config, "conf", {})
    options = {"token": "anon", "skip_instance_cache": True}
    assert gcsfs.GCSFileSystem(**options).dircache.use_listings_cache
    list_each_time()
    assert not gcsfs.GCSFileSystem(**options).dircache.use_listings_cache
    assert not fsspec.filesystem("gcs", **options).dircache.use_listings_cache


def test_what_somebody_has_set_stays(monkeypatch):
    monkeypatch.setattr(fsspec.config, "conf", {"gs": {"use_listings_cache": True}})
    list_each_time()
    assert fsspec.config.conf == {"gs": {"use_listings_cache": True}}


@seen_with("gcsfs", "2026.10.1", "it raised errors of its own, or an OSError without a number")
@pytest.mark.parametrize("status", [400, 403, 412, 500, 503])
def test_refusals_are_known(status):
    answer = b'{"error": {"message": "no", "code": 1}}'
    assert is_of_bucket(error_of(gcsfs.retry.validate_response, status, answer, "b/o"))


def test_a_files_errors_are_none_of_a_buckets():
    assert not is_of_bucket(FileNotFoundError(2, "No such file", "runs/x"))
    assert not is_of_bucket(ValueError("runs/x is damaged"))
    assert is_of_bucket(ValueError("gs://bucket/run is damaged"))
