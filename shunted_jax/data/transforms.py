"""From an encoded image to the uint8 one that the network is given, for training and evaluation.

Images stay uint8 on the host, a quarter of float32's bytes to move. What needs floats or a whole
batch (normalisation, erasing, mixing) happens on the device, in `augment/`.
"""

import dataclasses

import cv2
import numpy as np
from PIL import Image

from shunted_jax.data.crops import CenterCrop, PaddedCrop, RandomResizedCrop
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.rand_augment import RandAugment


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Crop, flip, RandAugment; every call of an epoch has a random generator of its own.

    Attributes:
        channels: of the result, 3 or 1.
    """

    crop: RandomResizedCrop | PaddedCrop
    flip_prob: float = 0.5
    rand_augment: RandAugment | None = None
    channels: int = 3

    def __call__(self, encoded: bytes, rng: np.random.Generator) -> np.ndarray:
        """Maps an image file's bytes to uint8 [size, size, channels]; raises `BadImageError`."""
        image = self.crop(EncodedImage(encoded), rng)
        image = random_flip(image, self.flip_prob, rng)
        if self.rand_augment is not None:
            image = self.rand_augment(image, rng)
        return in_channels(image, self.channels)


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Resize, centre crop, nothing random; `channels` of the result are 3 or 1."""

    crop: CenterCrop
    channels: int = 3

    def __call__(self, encoded: bytes) -> np.ndarray:
        """Maps an image file's bytes to uint8 [size, size, channels]; raises `BadImageError`."""
        return in_channels(self.crop(EncodedImage(encoded)), self.channels)


def in_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Returns an RGB image with 3 channels as it is, with 1 as Pillow's grey (mode L).

    What was grey comes out as it was, as all before this treats equal channels alike.

    Args:
        image: uint8 [height, width, 3].
        channels: of the result, [height, width, channels].
    """
    if channels == 3:
        return image
    return np.array(Image.fromarray(image).convert("L"))[..., None]


def random_flip(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right with the given probability; [height, width, channels]."""
    # A mirrored view would cost thirty times as much as this copy, when it is made contiguous.
    return cv2.flip(image, 1) if rng.random() < probability else image
