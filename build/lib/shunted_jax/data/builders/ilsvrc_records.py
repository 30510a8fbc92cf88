"""ILSVRC2012's images as the records of tensorflow-datasets' `imagenet2012`."""

import io
import itertools
from collections.abc import Iterator
from concurrent import futures
from typing import BinaryIO

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from shunted_jax.adapters.tfds import RECODED_IMAGES, record_maker
from shunted_jax.data.builders import ilsvrc_archives
from shunted_jax.errors import UserError

# A disk that is asked for several images at once is faster, and one over a network by far.
_READERS = 8
_IMAGES_IN_MEMORY = 256


class Records:
    """The records of an archive's images, made as they are asked for.

    Attributes:
        image_bytes: [images], the lengths of the images as they are in the records.
    """

    def __init__(
        self, features: tfds.features.FeaturesDict, archive: BinaryIO, entries: np.ndarray
    ):
        """Encodes anew what has to be.

        Args:
            features: the data set's.
            archive: the open archive.
            entries: [images] of `ilsvrc_archives.ENTRY`.
        """
        self._record_of = record_maker(features)
        self._archive, self._entries = archive, entries
        names = np.array(RECODED_IMAGES, entries["name"].dtype)
        listed = np.flatnonzero(np.isin(entries["name"], names)).tolist()
        self._recoded = {index: self._recode(index) for index in listed}
        self.image_bytes = entries["size"].copy()
        for index, image in self._recoded.items():
            self.image_bytes[index] = len(image)

    def of(self, indices: np.ndarray) -> Iterator[bytes]:
        """Yields the records of some images, in their order."""
        blocks = np.split(indices, range(_IMAGES_IN_MEMORY, len(indices), _IMAGES_IN_MEMORY))
        with futures.ThreadPoolExecutor(_READERS) as pool:
            images = itertools.chain.from_iterable(pool.map(self._image, block) for block in blocks)
            for index, image in zip(indices, images, strict=True):
                label, name = self._entries["label"][index], self._entries["name"][index]
                yield self._record_of(
                    {"image": image, "label": int(label), "file_name": name.decode()}
                )

    def _image(self, index: int) -> bytes:
        return self._recoded[index] if index in self._recoded else self._read(index)

    def _read(self, index: int) -> bytes:
        offset, size = self._entries["offset"][index], self._entries["size"][index]
        return ilsvrc_archives.read(self._archive, offset, size)

    def _recode(self, index: int) -> bytes:
        buffer = io.BytesIO()
        try:
            image = Image.open(io.BytesIO(self._read(index)))
            image.convert("RGB").save(buffer, "JPEG", quality=100)
        except OSError as error:
            raise UserError(
                f"{self._archive.name}: its image {self._entries['name'][index].decode()} cannot "
                "be decoded: download the archive again"
            ) from error
        return buffer.getvalue()
