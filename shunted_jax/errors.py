"""Errors whose message is all that a user needs to see, what led to one, and words for messages."""

import difflib
from collections.abc import Iterable, Iterator, Sequence

from shunted_jax.adapters.tensorstore import without_spec
from shunted_jax.names import readable


class UserError(ValueError):
    """What was asked for cannot be done; the message names it and says the remedy.

    The commands print the message and exit with status 2; any other exception is a fault of the
    program's and keeps its traceback.
    """


class RunError(RuntimeError):
    """A run cannot go on, for a reason that lies outside the program: a full disk, for one.

    The commands print the message and exit with status 1.
    """


class LockError(RunError):
    """This process may not write where it was to: another one does, or nobody can say.

    All processes that train as one meet it at the same moment.
    """


class PreemptedError(Exception):
    """A run was told to stop, and saved what it had.

    The commands print the message and exit with status 143, as a program that SIGTERM ends.
    """


def causes(error: BaseException, *, hidden: bool) -> Iterator[BaseException]:
    """Yields an error and what led to it, from the last to the first.

    Args:
        error: what was caught.
        hidden: whether to yield, too, what `raise ... from None` hides.
    """
    while error is not None:
        yield error
        shown = hidden or not error.__suppress_context__
        error = error.__cause__ or (error.__context__ if shown else None)


def in_a_line(error: BaseException) -> str:
    """Returns what kind of error it is and what it says first."""
    lines = without_spec(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {(lines or ['no more is known'])[0][:300]}"


def some(names: Sequence[str], most: int = 8) -> str:
    """Returns the first names of a list that may be long, and how many there are besides."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(readable(str(name)) for name in names[:most]) + more


def in_lines(problems: Sequence[str], most: int = 40) -> str:
    """Returns the first problems of a list that may be long, a line each, and how many follow."""
    more = [f"and {len(problems) - most:,} more"] if len(problems) > most else []
    return "".join(f"\n  {line}" for line in [*problems[:most], *more])


def nearest(name: str, known: Iterable[str], kind: str = "names") -> str:
    """Returns what to tell someone who wrote `name` where there are only the `known` ones.

    Args:
        name: what was written.
        known: the names that there are.
        kind: what to call them where none is near.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the {kind} are {', '.join(known)}"


def wrong_names(
    found: Iterable[str], known: Iterable[str], needed: Iterable[str] = (), kind: str = "names"
) -> str | None:
    """Returns what is wrong with the names in a file, and the remedy; None where nothing is.

    Args:
        found: the names in the file.
        known: the names that this program knows.
        needed: those that must be there.
        kind: what to call them where none is near.
    """
    found, known = list(found), list(known)
    for name in found:
        if name not in known:
            return (
                f"{name!r} is not known here ({nearest(name, known, kind)}): a newer program wrote "
                "it, so update this one"
            )
    missing = [name for name in needed if name not in found]
    if missing:
        there = ", ".join(sorted(found)) or "nothing"
        return f"{', '.join(missing)} is missing, and there is {there}: take another copy of it"
    return None
