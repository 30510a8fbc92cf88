"""Which part of an image the network sees: two ways to choose at random, and the fixed one."""

import dataclasses
import math

import numpy as np

from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.resizing import resize, resize_and_center_crop

_ATTEMPTS = 10  # at a box that fits, as in the published pipeline


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A box of random area, aspect and place, resized to a square (the published recipe's).

    Attributes:
        size: of the result, in pixels.
        area: the least and the largest share of the image's area.
        aspect: the least and the largest width to height; its logarithm is uniform.
    """

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, image: EncodedImage, rng: np.random.Generator) -> np.ndarray:
        """Returns uint8 [size, size, 3]."""
        box = self.draw_box(image.height, image.width, rng)
        reduce = self.reduction(box)
        pixels = image.decode(reduce)
        if len(pixels) == image.height:
            reduce = 1  # not a JPEG
        return resize(pixels, tuple(edge / reduce for edge in box), self.size)

    def reduction(self, box: tuple[int, int, int, int]) -> int:
        """Returns how many times smaller each side of the image may be decoded for this box."""
        # A JPEG decodes quicker at a half or less of its size. What is then resized has still twice
        # the result's: below that the result would differ by more than a grey level from the one
        # that a whole image gives.
        return max(r for r in (1, 2, 4, 8) if r == 1 or min(box[2:]) >= 2 * r * self.size)

    def draw_box(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Returns (top, left, box height, box width) for an image of this height and width."""
        for _ in range(_ATTEMPTS):
            area = height * width * rng.uniform(*self.area)
            aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < box_height <= height and 0 < box_width <= width:
                top = rng.integers(0, height - box_height, endpoint=True)
                left = rng.integers(0, width - box_width, endpoint=True)
                return int(top), int(left), box_height, box_width
        # Most often a very long image: the largest box in its middle with an allowed aspect.
        least, largest = self.aspect
        box_height = min(height, max(1, round(width / least)))
        box_width = min(width, max(1, round(height * largest)))
        return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@dataclasses.dataclass(frozen=True)
class PaddedCrop:
    """The whole image, shifted by a few pixels; black moves in (the recipe for small images).

    Attributes:
        size: of the result, in pixels; an image of another size is resized and cropped first.
        padding: the largest shift, in pixels.
    """

    size: int
    padding: int = 4

    def __call__(self, image: EncodedImage, rng: np.random.Generator) -> np.ndarray:
        """Returns uint8 [size, size, 3]."""
        whole = CenterCrop(self.size, crop_pct=1.0)(image)
        top, left = rng.integers(0, 2 * self.padding, size=2, endpoint=True)
        edge = (self.padding, self.padding)
        return np.pad(whole, (edge, edge, (0, 0)))[top : top + self.size, left : left + self.size]


@dataclasses.dataclass(frozen=True)
class CenterCrop:
    """The middle of the image, for evaluation: Pillow's pixels.

    Attributes:
        size: of the result, in pixels.
        crop_pct: what the crop keeps of the resized image's short side.
    """

    size: int
    crop_pct: float = 224 / 256

    def __call__(self, image: EncodedImage) -> np.ndarray:
        """Returns uint8 [size, size, 3]."""
        # The published pipeline rounds down; what is whole but for float's error stays whole.
        short_side = math.floor(self.size / self.crop_pct + 1e-6)
        return resize_and_center_crop(image.decode(), short_side, self.size)
