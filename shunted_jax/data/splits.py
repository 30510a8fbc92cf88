"""Parts of splits, such as "train[:90%]+val": which examples they are, and which two share."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import tensorflow_datasets as tfds

from shunted_jax.errors import UserError

ONE_SPLIT = "train"  # what a data set without splits is

# What people call the same thing, and what they take for want of it.
_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation", "dev")
_TEST = ("test", "testing", "eval")
_MEANT = (
    dict.fromkeys(_TRAIN, _TRAIN)
    | dict.fromkeys(_VALIDATION, _VALIDATION + _TEST)
    | dict.fromkeys(_TEST, _TEST + _VALIDATION)
)


class Part(NamedTuple):
    """The examples `start` to `stop` - 1 of a split."""

    split: str
    start: int
    stop: int


class NoSplitError(UserError):
    """A data set has no split of a name.

    Attributes:
        instead: what to write for the whole expression; None where no name is near.
    """

    def __init__(self, message: str, instead: str | None = None):
        super().__init__(message)
        self.instead = instead


def names_in(split: str) -> list[str]:
    """Returns the splits that an expression takes parts of; "all" stands for each there is."""
    return [part.partition("[")[0].strip() for part in split.split("+")]


def check_names(split: str, there: Iterable[str], where: str) -> None:
    """Looks whether each split of an expression is there.

    Args:
        split: the expression.
        there: the names that there are.
        where: what has them, for the message.

    Raises:
        NoSplitError: one is not; a UserError where there is only the one called `ONE_SPLIT`.
    """
    there = list(there)
    for name in names_in(split):
        if name not in (*there, "all"):
            if there == [ONE_SPLIT]:
                raise UserError(
                    f"{where} has no split {name!r}: all of it is {ONE_SPLIT!r}, of which you take "
                    f"parts, as in '--config.data.train_split={ONE_SPLIT}[:90%]' "
                    f"'--config.data.eval_split={ONE_SPLIT}[90%:]'"
                )
            near = nearest_split(name, there)
            raise NoSplitError(
                f"{where} has no split {name!r}; it has {', '.join(map(repr, there))}",
                near and re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", near, split),
            )


def nearest_split(name: str, there: Iterable[str]) -> str | None:
    """Returns which of the splits that there are is meant by `name`; None where none is near."""
    there = list(there)
    if name in there:
        return name
    by_small_letters = {other.casefold(): other for other in there}
    small = name.casefold()
    meant = (small, *_MEANT.get(small, ()))
    return next((by_small_letters[one] for one in meant if one in by_small_letters), None)


def is_called_like_a_split(name: str) -> bool:
    """Returns whether a folder of this name is hardly a class."""
    return name.casefold() in _MEANT


def parts_of(split: str, infos: Mapping[str, tfds.core.SplitInfo], where: str) -> tuple[Part, ...]:
    """Returns the parts that an expression names, in its order.

    Args:
        split: the expression, as tensorflow-datasets reads it.
        infos: of each split that is named, what tensorflow-datasets knows of it.
        where: what has the splits, for messages.

    Raises:
        UserError: the expression is not understood, or reaches further than a split.
    """
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (AssertionError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{where} cannot give the split {split!r}: {' '.join(str(error).split())}"
        ) from error
    return tuple(
        Part(
            part.splitname,
            part.from_ or 0,
            infos[part.splitname].num_examples if part.to is None else part.to,
        )
        for part in parts
    )


def info_of(name: str, examples: int) -> tfds.core.SplitInfo:
    """Returns a split of so many examples in the form of which `parts_of` takes parts."""
    return tfds.core.SplitInfo(name=name, shard_lengths=[examples], num_bytes=0)


def shared(one: Iterable[Part], other: Iterable[Part]) -> int:
    """Returns how many examples are in both of two splits of one data set."""
    other = list(other)
    return sum(
        max(0, min(a.stop, b.stop) - max(a.start, b.start))
        for a in one
        for b in other
        if a.split == b.split
    )
