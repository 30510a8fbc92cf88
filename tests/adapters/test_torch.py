"""What torch says of files that want something run."""

import datetime

import pytest

from shunted_jax.adapters.torch import refused_global
from tests.adapters.contract import error_of, seen_with


@seen_with("torch", "2.13.0", "a refusal named what it refused behind the word GLOBAL")
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_refused_is_named(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save(datetime.timedelta(3), path, _use_new_zipfile_serialization=zipped)
    error = error_of(torch.load, path, weights_only=True)
    assert refused_global(error) == "datetime.timedelta"


def test_other_errors_name_nothing():
    assert refused_global(EOFError("Ran out of input")) is None
