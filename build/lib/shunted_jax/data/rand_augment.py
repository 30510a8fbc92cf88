"""RandAugment (arXiv 1909.13719) as in the published recipe: a few random operations an image."""

import dataclasses
from collections.abc import Callable

import numpy as np

from shunted_jax.data import image_operations as ops
from shunted_jax.data.image_operations import Fill
from shunted_jax.errors import UserError, nearest

MEAN_COLOUR: Fill = (124, 116, 104)  # ImageNet's

_SIGNS = {1: 1, -1: -1, "+": 1, "-": -1}


def _factor(strength):
    return max(0.1, 1 + 0.9 * strength)


# From a name to the operation at a strength in [-1, 1]: a tenth of the level, with the sign.
_OPERATIONS: dict[str, Callable[[np.ndarray, float, Fill], np.ndarray]] = {
    "AutoContrast": lambda image, strength, fill: ops.auto_contrast(image),
    "Equalize": lambda image, strength, fill: ops.equalize(image),
    "Invert": lambda image, strength, fill: ops.invert(image),
    "Rotate": lambda image, strength, fill: ops.rotate(image, 30 * strength, fill),
    "Posterize": lambda image, strength, fill: ops.posterize(image, 4 - int(4 * abs(strength))),
    "Solarize": lambda image, strength, fill: ops.solarize(image, 256 - int(256 * abs(strength))),
    "SolarizeAdd": lambda image, strength, fill: ops.solarize_add(image, int(110 * abs(strength))),
    "Color": lambda image, strength, fill: ops.color(image, _factor(strength)),
    "Contrast": lambda image, strength, fill: ops.contrast(image, _factor(strength)),
    "Brightness": lambda image, strength, fill: ops.brightness(image, _factor(strength)),
    "Sharpness": lambda image, strength, fill: ops.sharpness(image, _factor(strength)),
    "ShearX": lambda image, strength, fill: ops.shear_x(image, 0.3 * strength, fill),
    "ShearY": lambda image, strength, fill: ops.shear_y(image, 0.3 * strength, fill),
    "TranslateX": lambda image, strength, fill: ops.translate_x(image, 0.45 * strength, fill),
    "TranslateY": lambda image, strength, fill: ops.translate_y(image, 0.45 * strength, fill),
}

OPS = tuple(_OPERATIONS)


def apply(
    image: np.ndarray, op: str, level: float, sign: int | str, fill: Fill = MEAN_COLOUR
) -> np.ndarray:
    """Applies one operation.

    Args:
        image: uint8 [height, width, 3], RGB; it stays as it is.
        op: one of `OPS`.
        level: how strongly, 0 to 10.
        sign: 1 or "+" for more of it (to the left and up, counterclockwise), -1 or "-" for less;
            the operations without a direction ignore it.
        fill: the colour of what comes in from outside the image.

    Returns:
        uint8 [height, width, 3], contiguous; perhaps the image itself, if nothing changes.

    Raises:
        UserError: there is no such operation, level or sign.
    """
    if op not in _OPERATIONS:
        raise UserError(f"there is no operation {op!r}; {nearest(op, OPS, kind='operations')}")
    if not 0 <= level <= 10:
        raise UserError(f"the level of {op} is {level}, and the levels go from 0 to 10")
    if sign not in _SIGNS:
        raise UserError(f"the sign of {op} is {sign!r}: take 1 or -1, or '+' or '-'")
    return _OPERATIONS[op](np.ascontiguousarray(image), _SIGNS[sign] * level / 10, fill)


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Applies random operations to an image; its defaults are the published recipe.

    Attributes:
        num_layers: how many operations are drawn, each from all of `OPS`.
        magnitude: the mean level.
        magnitude_std: the level's standard deviation, before it is cut to 0-10.
        probability: of applying an operation that was drawn.
        fill: the colour of what comes in from outside the image.
    """

    num_layers: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.5
    probability: float = 0.5
    fill: Fill = MEAN_COLOUR

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Maps uint8 [height, width, 3] to the same shape; the image itself if nothing applies."""
        for op, level, sign in self.draw(rng):
            image = apply(image, op, level, sign, self.fill)
        return image

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float, int]]:
        """Draws what to apply, in this order: names, levels and signs, as `apply` takes them."""
        # All at once: a call of the generator costs as much as a small operation.
        choices = rng.random((self.num_layers, 3)).tolist()
        levels = rng.normal(self.magnitude, self.magnitude_std, self.num_layers).tolist()
        return [
            (OPS[int(which * len(OPS))], min(max(level, 0.0), 10.0), 1 if turn < 0.5 else -1)
            for (which, apply_it, turn), level in zip(choices, levels, strict=True)
            if apply_it < self.probability
        ]
