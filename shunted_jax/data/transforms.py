"""From encoded bytes to the uint8 image that the network is given, for training and evaluation.

Images stay uint8 on the host, a quarter of float32's bytes to move; the device normalises them.
"""

import dataclasses
import io
from typing import Any

import grain.python as grain
import numpy as np
from PIL import Image


def decode(encoded: bytes) -> Image.Image:
    """Decodes an image file to RGB; a grey one has three equal channels."""
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Resizes to size x size pixels, bicubic with antialiasing; uint8 [size, size, 3]."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def random_padded_crop(image: np.ndarray, padding: int, rng: np.random.Generator) -> np.ndarray:
    """Pads with zeros on all sides and crops to the old size anywhere: a shift by up to `padding`.

    Args:
        image: [height, width, channels].
        padding: pixels on each side; 0 returns the image itself.
        rng: decides the shift.

    Returns:
        [height, width, channels].
    """
    height, width = image.shape[:2]
    top, left = rng.integers(0, 2 * padding, size=2, endpoint=True)
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return padded[top : top + height, left : left + width]


def random_flip(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right with the given probability; [height, width, channels]."""
    return image[:, ::-1] if rng.random() < probability else image


@dataclasses.dataclass(frozen=True)
class TrainTransform(grain.RandomMapTransform):
    """The recipe for small images: decode, resize, padded random crop, flip.

    Grain gives every example of every epoch its own random generator.
    """

    image_size: int
    crop_padding: int = 0
    flip_probability: float = 0.0

    def random_map(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Maps {"image": bytes, "label": int} to uint8 [size, size, 3] and int32 []."""
        image = resize(decode(example["image"]), self.image_size)
        image = random_padded_crop(image, self.crop_padding, rng)
        image = random_flip(image, self.flip_probability, rng)
        return {"image": np.ascontiguousarray(image), "label": np.int32(example["label"])}


@dataclasses.dataclass(frozen=True)
class EvalTransform(grain.MapTransform):
    """Decode and resize, nothing random."""

    image_size: int

    def map(self, example: dict[str, Any]) -> dict[str, Any]:
        """Maps {"image": bytes, "label": int} to uint8 [size, size, 3] and int32 []."""
        image = resize(decode(example["image"]), self.image_size)
        return {"image": image, "label": np.int32(example["label"])}
