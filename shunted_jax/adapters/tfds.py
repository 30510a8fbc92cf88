"""tensorflow-datasets: the order, the shards and the records that its own writer would make.

Its writer cannot go on after an interruption. The parts that decide what it writes are modules
below `tfds.core` that are not documented.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer, hashing, naming
from tensorflow_datasets.core.utils import shard_utils
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as stock

ImageNet = stock.Builder

# The files that the stock builder encodes anew, be they what it takes them for or not.
RECODED_IMAGES = (*stock.CMYK_IMAGES, *stock.PNG_IMAGES)


@functools.cache
def imagenet_synsets() -> tuple[str, ...]:
    """Returns what ImageNet's 1,000 labels stand for, such as "n01440764", in their order."""
    return tuple(tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split())


def may_be_name(text: str) -> bool:
    """Returns whether a data set, its configuration or version can be called so."""
    try:
        naming.parse_builder_name_kwargs(text)
    except ValueError:
        return False
    return True


def sort_keys(split: str, names: Iterable[bytes]) -> Iterator[int]:
    """Yields a number of 128 bits for each example; a split's files have them in its order.

    Args:
        split: the split's name.
        names: the examples' keys.
    """
    hasher = hashing.Hasher(split)
    return map(hasher.hash_key, names)


def shard_ends(num_bytes: int, num_examples: int) -> tuple[int, ...]:
    """Returns how many examples there are up to the end of each shard.

    Args:
        num_bytes: of all records of the split.
        num_examples: of the split.
    """
    number = shard_utils.ShardConfig().get_number_shards(num_bytes, num_examples)
    return tuple(shard_utils.get_shard_boundaries(num_examples, number))


def record_maker(features: tfds.features.FeaturesDict) -> Callable[[dict[str, Any]], bytes]:
    """Returns what makes a record of an example's values by name, its fields sorted."""
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())

    def record_of(example: dict[str, Any]) -> bytes:
        message = serializer.get_tf_example(features.encode_example(example))
        return message.SerializeToString(deterministic=True)

    return record_of
