"""From an encoded image to the uint8 one that the network is given, for training and evaluation.

Images stay uint8 on the host, a quarter of float32's bytes to move. What needs floats or a whole
batch (normalisation, erasing, mixing) happens on the device, in `augment/`.
"""

import dataclasses

import cv2
import numpy as np

from shunted_jax.data.crops import CenterCrop, PaddedCrop, RandomResizedCrop
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.rand_augment import RandAugment


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Crop, flip, RandAugment; every call of an epoch has a random generator of its own."""

    crop: RandomResizedCrop | PaddedCrop
    flip_prob: float = 0.5
    rand_augment: RandAugment | None = None

    def __call__(self, encoded: bytes, rng: np.random.Generator) -> np.ndarray:
        """Maps an image file's bytes to uint8 [size, size, 3]; raises `BadImageError`."""
        image = self.crop(EncodedImage(encoded), rng)
        image = random_flip(image, self.flip_prob, rng)
        if self.rand_augment is not None:
            image = self.rand_augment(image, rng)
        return image


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Resize, centre crop, nothing random."""

    crop: CenterCrop

    def __call__(self, encoded: bytes) -> np.ndarray:
        """Maps an image file's bytes to uint8 [size, size, 3]; raises `BadImageError`."""
        return self.crop(EncodedImage(encoded))


def random_flip(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right with the given probability; [height, width, channels]."""
    # A mirrored view would cost thirty times as much as this copy, when it is made contiguous.
    return cv2.flip(image, 1) if rng.random() < probability else image
