"""Which of a network's classes are those of a data set: classes are what their names say.

A label is a number, and stands for another class wherever there are other names, or the same ones
in another order. A head has an output for each class that its network was trained on.
"""

import collections
import re
from collections.abc import Sequence
from typing import Any

from shunted_jax.adapters.tfds import imagenet_synsets
from shunted_jax.checkpoints import Metadata

_SYNSET = re.compile(r"(?<![A-Za-z0-9])n\d{8}(?!\d)")  # WordNet's number of a noun


def names_of(meta: Metadata) -> Sequence[str] | None:
    """Returns what the outputs of a checkpoint's head stand for; None where that is not known.

    A checkpoint's own names come first. Converted weights have none: those of 1,000 classes are
    taken for ImageNet's, whose labels are in the order of its synsets.
    """
    if meta.class_names is None and meta.model["num_classes"] == len(imagenet_synsets()):
        return imagenet_synsets()
    return meta.class_names


def outputs_of(names: Sequence[str], saved: Sequence[str]) -> list[int | None]:
    """Returns, for each class of a data set, which output of the network stands for it.

    Two names mean the same class if they are equal, or if both have the same synset in them:
    "n01440764" and "n01440764_tench".

    Args:
        names: of the data set's classes, in the order of its labels.
        saved: of the network's, in the order of its outputs.
    """
    if list(names) == list(saved):  # some of which may be equal
        return list(range(len(names)))
    places = {_meaning(name): place for place, name in enumerate(saved)}
    return [places.get(_meaning(name)) for name in names]


def ambiguous(names: Sequence[str], saved: Sequence[str]) -> list[str]:
    """Returns the data set's names that several of the network's outputs have.

    Args:
        names: as in `outputs_of`.
        saved: likewise.
    """
    if list(names) == list(saved):
        return []
    counts = collections.Counter(map(_meaning, saved))
    return [name for name in names if counts[_meaning(name)] > 1]


def are_all(outputs: Sequence[int | None], count: int) -> bool:
    """Returns whether `outputs` are all of a network's `count`, in whatever order."""
    return len(outputs) == count and set(outputs) == set(range(count))


def with_outputs(params: dict[str, Any], outputs: Sequence[int]) -> dict[str, Any]:
    """Returns parameters whose head has these outputs of the one that it had, in this order.

    Args:
        params: nested dicts of numpy arrays, the head's [..., classes].
        outputs: which to take.
    """
    head = {name: leaf[..., list(outputs)] for name, leaf in params["head"].items()}
    return {**params, "head": head}


def examples(names: Sequence[str], others: Sequence[str] = (), most: int = 3) -> str:
    """Returns some of the names for a message, first those that are not among `others`.

    Args:
        names: of which to tell.
        others: what they are compared with.
        most: how many to tell.
    """
    known = set(others)
    told = sorted(names, key=lambda name: name in known)  # keeps the order otherwise
    more = ", ..." if len(told) > most else ""
    return ", ".join(map(repr, told[:most])) + more


def _meaning(name: str) -> str:
    found = _SYNSET.search(name)
    return found.group() if found else name
