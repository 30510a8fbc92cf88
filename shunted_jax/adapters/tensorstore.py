"""tensorstore, which reads and writes Orbax's arrays: its words, and the names that it misreads."""

import os
from collections.abc import Iterable


def errno_in(text: str, numbers: Iterable[int]) -> int | None:
    """Returns the error number that a message speaks of; None where it is none of them.

    Its errors are ValueErrors, which have no number. Their words are the C library's.

    Args:
        text: an error's message.
        numbers: of `errno`, those to look for.
    """
    return next((number for number in numbers if os.strerror(number) in text), None)


def without_spec(text: str) -> str:
    """Returns a message without the description of the array, a page of JSON, that ends it."""
    return text.partition(" [tensorstore_spec")[0]


def misread_in(path: str) -> str | None:
    """Returns what it does not take as it stands in a path; None where it takes all of it.

    A backslash it reads as a slash, and writes into another folder. Of what is not UTF-8 it says
    that it cannot be cast.
    """
    if "\\" in path:
        return "a backslash"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "bytes that are not UTF-8"
    return None
