"""tensorstore, which reads and writes Orbax's arrays: it says in words alone what went wrong."""

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
