"""Names that are shown as text in a line, whatever they are of."""

import os

import pytest

from shunted_jax.names import readable


@pytest.mark.parametrize(
    "name", ["cat", "café", "日本語", "שלום", "می‌خواهم", "coin_$^2", "a\\b", ""]
)
def test_what_can_be_shown_stays(name):
    assert readable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),  # Latin 1
        (os.fsdecode("日".encode("shift_jis")), r"\x93\xfa"),
        ("two\nlines\tand\x1b[31m red", r"two\nlines\tand\x1b[31m red"),
        ("a\u2028b\x85", r"a\u2028b\x85"),
        ("half of a pair \ud83d", r"half of a pair \ud83d"),  # as JSON may hold it
    ],
)
def test_the_rest_is_written_as_python_does(name, shown):
    assert readable(name) == shown
    assert shown.encode().decode() == shown.splitlines()[0]
