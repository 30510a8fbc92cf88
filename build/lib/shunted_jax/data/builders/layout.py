"""Which example goes where in ImageNet's files: the order and the shards of tensorflow-datasets.

Its own writer learns both from the examples, which it keeps on the disk meanwhile and loses when it
is interrupted. Here the names and sizes are enough, so that each shard can be made by itself.
"""

import dataclasses

import numpy as np

from shunted_jax.adapters.tfds import shard_ends, sort_keys
from shunted_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Layout:
    """A split's examples and shards.

    Attributes:
        order: [examples], the indices of the examples as they follow each other in the files.
        record_bytes: [examples], the length of each one's record, in the order of the indices.
        ends: [shards], where in `order` each shard ends.
    """

    order: np.ndarray
    record_bytes: np.ndarray
    ends: tuple[int, ...]

    @property
    def shards(self) -> list[np.ndarray]:
        """The indices of each shard's examples."""
        return np.split(self.order, self.ends[:-1])

    @property
    def num_bytes(self) -> int:
        """What tensorflow-datasets calls the split's size."""
        return int(self.record_bytes.sum())


def lay_out(split: str, names: np.ndarray, labels: np.ndarray, image_bytes: np.ndarray) -> Layout:
    """Lays out a split of `imagenet2012`.

    Args:
        split: the split's name, which the order depends on.
        names: [examples] of bytes, the file names; they are the examples' keys.
        labels: [examples] of int.
        image_bytes: [examples] of int, the images' lengths.

    Returns:
        The layout.

    Raises:
        UserError: two examples have the same name.
    """
    mask = 2**64 - 1
    keys = np.empty((2, len(names)), np.uint64)
    for index, key in enumerate(sort_keys(split, names.tolist())):
        keys[:, index] = key & mask, key >> 64
    order = np.lexsort(keys)  # by the last row, which has the upper halves, then by the first
    in_order = keys[:, order]
    (same,) = np.nonzero((in_order[:, 1:] == in_order[:, :-1]).all(axis=0))
    if same.size:
        raise UserError(
            f"{names[order[same[0]]].decode()} is twice in the archive of the split {split}, and "
            "ILSVRC2012's own has each image once: take the archive as image-net.org gives it"
        )
    record_bytes = _record_bytes(np.char.str_len(names), labels, image_bytes)
    ends = shard_ends(int(record_bytes.sum()), len(names))
    return Layout(order, record_bytes, ends)


def _record_bytes(
    name_bytes: np.ndarray, labels: np.ndarray, image_bytes: np.ndarray
) -> np.ndarray:
    # A tf.train.Example is messages within messages, each preceded by its length: the features,
    # the entry of one, its key and its value, the list in that, what the list holds.
    lists = {
        "image": _field(image_bytes),
        "file_name": _field(name_bytes),
        "label": _field(_varint(labels)),
    }
    entries = [
        _field(_field(np.int64(len(key))) + _field(_field(content)))
        for key, content in lists.items()
    ]
    return _field(sum(entries))


def _field(size: np.ndarray) -> np.ndarray:
    """The length of a message's field of `size` bytes: its tag, the size itself, the content."""
    return 1 + _varint(size) + size


def _varint(value: np.ndarray) -> np.ndarray:
    """The length of a number of 0 to 2**35 - 1, of which each byte holds seven bits."""
    return 1 + sum((np.asarray(value) >> shift > 0).astype(np.int64) for shift in (7, 14, 21, 28))
