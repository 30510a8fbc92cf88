"""Where examples come from: random access to encoded images and their labels."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from shunted_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Source:
    """A split of a data set.

    Attributes:
        examples: random access to {"image": encoded bytes, "label": int}; it can be pickled.
        class_names: what each label stands for.
    """

    examples: Sequence[dict[str, Any]]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.examples)


def open_source(dataset: str, split: str, data_dir: str | None = None) -> Source:
    """Opens a prepared tensorflow-datasets data set of images with class labels.

    Args:
        dataset: the data set's name, such as "digits", "cifar100" or "imagenet2012:5.1.0".
        split: a split or a part of one, such as "train" or "train[:99%]".
        data_dir: where tensorflow-datasets keeps its data sets; None takes its default.

    Returns:
        The split, its images still encoded.

    Raises:
        UserError: the data set is not prepared there in a random-access format, has no such split,
            or does not hold images with class labels.
    """
    where = data_dir or "tensorflow-datasets' default folder"
    try:
        # Unless told not to, data_source would set out to download what it does not find.
        examples = tfds.data_source(
            dataset,
            split=split,
            data_dir=data_dir,
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
    except (
        tfds.core.registered.DatasetNotFoundError,
        AssertionError,
        FileNotFoundError,
        NotImplementedError,  # prepared as TFRecord, or not at all
    ):
        raise UserError(
            f"no data set {dataset!r} is prepared as ArrayRecord in {where}; prepare it first, for "
            f"example: python -m shunted_jax.data.prepare digits --data-dir {data_dir or 'DIR'}"
        ) from None
    except (KeyError, ValueError) as error:
        raise UserError(f"the data set {dataset!r} in {where} cannot be read: {error}") from error
    features = examples.dataset_info.features
    is_labelled = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
    if "image" not in features or not is_labelled:
        raise UserError(
            f"the data set {dataset!r} has the features {sorted(features)}, and training wants an "
            "'image' and a 'label' of classes"
        )
    return Source(examples, tuple(features["label"].names))
