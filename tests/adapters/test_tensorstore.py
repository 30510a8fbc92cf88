"""tensorstore's messages, from arrays that cannot be written, and the names that it misreads."""

import errno

import numpy as np
import tensorstore

from shunted_jax.adapters.tensorstore import errno_in, misread_in, without_spec
from tests.adapters.contract import error_of, seen_with
from tests.support.full_disk import largest_file

MESSAGE = "its errors said what the C library says, and then the array's description"


@seen_with("tensorstore", "0.1.86", MESSAGE)
def test_what_the_disk_complains_of_is_in_the_words(tmp_path):
    numbers = np.random.default_rng(0).standard_normal(2**17)
    array = tensorstore.open(
        {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(tmp_path)},
            "metadata": {"shape": [2**17], "dtype": "<f8", "chunks": [2**17]},
        },
        create=True,
    ).result()
    with largest_file(2**14):
        error = error_of(array.write(numbers).result)
    assert isinstance(error, ValueError)
    assert errno_in(str(error), (errno.ENOSPC, errno.EFBIG)) == errno.EFBIG
    assert errno_in(str(error), (errno.ENOSPC, errno.EDQUOT)) is None


@seen_with("tensorstore", "0.1.86", MESSAGE)
def test_what_an_array_is_stands_behind_what_went_wrong(tmp_path):
    (tmp_path / ".zarray").write_text("no JSON")
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(tmp_path)}}
    text = str(error_of(tensorstore.open(spec).result))
    assert "[tensorstore_spec=" in text
    assert "tensorstore_spec" not in without_spec(text)
    assert text.startswith(without_spec(text))
    assert ".zarray" in without_spec(text)


@seen_with("tensorstore", "0.1.86", "it took a backslash for a slash, and no text but UTF-8")
def test_names_that_it_misreads(tmp_path):
    def open_in(name):
        kvstore = {"driver": "file", "path": f"{tmp_path}/{name}"}
        spec = {"driver": "zarr", "kvstore": kvstore, "metadata": {"shape": [1], "dtype": "<f8"}}
        return tensorstore.open(spec, create=True).result()

    open_in("a\\b")
    assert (tmp_path / "a" / "b" / ".zarray").exists()
    assert not (tmp_path / "a\\b").exists()
    assert misread_in(f"{tmp_path}/a\\b/c") == "a backslash"

    assert isinstance(error_of(open_in, "caf\udce9"), RuntimeError)
    assert misread_in("caf\udce9") == "bytes that are not UTF-8"

    for number, name in enumerate(["[1]*?", "a b%20#", "new\nline", "café", "{x}", "~"]):
        open_in(f"{number}/{name}")
        assert (tmp_path / str(number) / name / ".zarray").exists()
        assert misread_in(name) is None
