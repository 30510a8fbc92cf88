"""From an example's number to a row of a batch, and what becomes of bad images.

A bad image either stops the run with the example's name, or is skipped: training takes the next
example that can be read in its place, the same one every time, and evaluation leaves it out. Rows
carry the number of the example that failed, so that the main process can count and name them.
"""

import dataclasses
from typing import Any

import numpy as np

from shunted_jax.data.bad_images import BadImageError
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.sources import Source
from shunted_jax.data.transforms import EvalTransform, TrainTransform
from shunted_jax.errors import RunError, UserError, in_a_line

Row = dict[str, Any]

NONE_BAD = -1
_MOST_IN_A_ROW = 100  # bad examples, after which it is not a few files that are at fault


@dataclasses.dataclass(frozen=True)
class LoadForTraining:
    """Maps (index, rng) to {"image": uint8 [size, size, channels], "label": int32, "bad": int64}.

    Attributes:
        source: where the examples come from.
        transform: what happens to each image.
        on_bad_image: "raise" or "skip".
    """

    source: Source
    transform: TrainTransform
    on_bad_image: str = "raise"

    def __call__(self, index: int, rng: np.random.Generator) -> Row:
        """Loads example `index`, or the next good one; raises `UserError` as asked."""
        bad = NONE_BAD
        for attempt in range(_MOST_IN_A_ROW):
            number = (index + attempt) % len(self.source)
            try:
                example = _read(self.source, number)
                image = self.transform(example["image"], rng)
            except BadImageError as error:
                if self.on_bad_image == "raise":
                    raise _bad_image_error(self.source, number, error) from None
                bad = number if bad == NONE_BAD else bad
                continue
            return {
                "image": np.ascontiguousarray(image),
                "label": _label(self.source, number, example["label"]),
                "bad": np.int64(bad),
            }
        raise UserError(
            f"{_MOST_IN_A_ROW} images in a row cannot be decoded, from {self.source.describe(bad)} "
            "on: look at the data set itself"
        )


@dataclasses.dataclass(frozen=True)
class LoadForEvaluation:
    """Maps a position to a row as in training, with "mask": whether it counts.

    Positions beyond the source are padding: images of zeros that do not count. Nor does a bad image
    that is skipped.
    """

    source: Source
    transform: EvalTransform
    on_bad_image: str = "raise"

    def __call__(self, position: int) -> Row:
        """Loads example `position`; raises `UserError` if it is bad and not to be skipped."""
        image, label, bad = None, 0, NONE_BAD
        if position < len(self.source):
            try:
                example = _read(self.source, position)
                label = example["label"]
                image = self.transform(example["image"])
            except BadImageError as error:
                if self.on_bad_image == "raise":
                    raise _bad_image_error(self.source, position, error) from None
                bad = position
        size, channels = self.transform.crop.size, self.transform.channels
        return {
            "image": np.zeros((size, size, channels), np.uint8) if image is None else image,
            "label": _label(self.source, position, label),
            "bad": np.int64(bad),
            "mask": np.bool_(image is not None),
        }


def _read(source: Source, number: int) -> dict[str, Any]:
    try:
        return source.examples[number]
    except RunError:
        raise
    except RuntimeError as error:  # of ArrayRecord
        raise UserError(
            f"example {number} of {source.name} cannot be read ({in_a_line(error)}): a file of the "
            "data set is cut off, changed or gone; copy it again, or prepare it again"
        ) from error


def reason_of(source: Source, number: int) -> str:
    """Returns why an example that was skipped cannot be decoded; rows do not carry it.

    Nothing is returned of what is bad for one crop alone, or is not bad any more.
    """
    try:
        EncodedImage(source.examples[number]["image"]).decode()
    except BadImageError as error:
        return str(error)
    return ""


def _bad_image_error(source: Source, number: int, error: BadImageError) -> UserError:
    return UserError(
        f"{source.describe(number)} cannot be decoded: {error}. Mend or remove it, or go on "
        "without it: --config.data.on_bad_image=skip"
    )


def _label(source: Source, number: int, label: int) -> np.int32:
    """Returns an example's label; tensorflow-datasets' -1 means that it has none."""
    count = len(source.class_names)
    if number < len(source) and not 0 <= label < count:
        raise UserError(
            f"{source.describe(number)} has the label {label}, and the classes are numbered from 0 "
            f"to {count - 1}: take a split whose images are labelled"
        )
    return np.int32(label)
