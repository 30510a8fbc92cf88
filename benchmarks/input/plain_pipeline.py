"""The published input pipeline, the plain way: Pillow throughout, floats and erasing on the host.

What `input_pipeline.py` compares with. It takes the same random decisions from the same classes, so
that both do the same work.
"""

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from shunted_jax.data.crops import RandomResizedCrop
from shunted_jax.data.rand_augment import MEAN_COLOUR, RandAugment

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
BICUBIC = Image.Resampling.BICUBIC


def decode(encoded: bytes) -> Image.Image:
    """Decodes the whole image."""
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def crop(image: Image.Image, rng: np.random.Generator, size: int = 224) -> Image.Image:
    """Random resized crop."""
    top, left, height, width = RandomResizedCrop(size).draw_box(image.height, image.width, rng)
    box = image.crop((left, top, left + width, top + height))
    return box.resize((size, size), BICUBIC)


def rand_augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The published RandAugment."""
    for op, level, sign in RandAugment().draw(rng):
        image = _OPERATIONS[op](image, sign * level / 10)
    return image


def normalize_and_erase(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Float32, channels first, a quarter of the images with a box of noise."""
    pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
    if rng.random() < 0.25:
        height, width = pixels.shape[:2]
        area = height * width * rng.uniform(0.02, 1 / 3)
        aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
        h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if h < height and w < width:
            top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            pixels[top : top + h, left : left + w] = rng.standard_normal((h, w, 3), np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def train(encoded: bytes, rng: np.random.Generator) -> np.ndarray:
    """The whole of training's pipeline for one image."""
    image = crop(decode(encoded), rng)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return normalize_and_erase(rand_augment(image, rng), rng)


def evaluate(encoded: bytes, size: int = 224) -> np.ndarray:
    """The whole of evaluation's pipeline for one image."""
    image = decode(encoded)
    short = size * 256 // 224
    scale = short / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32)
    return np.ascontiguousarray(((pixels / 255 - MEAN) / STD).transpose(2, 0, 1))


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, BICUBIC, fillcolor=MEAN_COLOUR
    )


def _enhance(kind: type) -> object:
    return lambda image, s: kind(image).enhance(max(0.1, 1 + 0.9 * s))


def _posterize(image: Image.Image, s: float) -> Image.Image:
    bits = 4 - int(4 * abs(s))
    return ImageOps.posterize(image, bits) if bits else image.point([0] * 768)  # Pillow wants one


def _solarize_add(image: Image.Image, s: float) -> Image.Image:
    addend = int(110 * abs(s))
    return image.point([min(255, v + addend) if v < 128 else v for v in range(256)] * 3)


_OPERATIONS = {
    "AutoContrast": lambda image, s: ImageOps.autocontrast(image),
    "Equalize": lambda image, s: ImageOps.equalize(image),
    "Invert": lambda image, s: ImageOps.invert(image),
    "Rotate": lambda image, s: image.rotate(30 * s, BICUBIC, fillcolor=MEAN_COLOUR),
    "Posterize": _posterize,
    "Solarize": lambda image, s: ImageOps.solarize(image, 256 - int(256 * abs(s))),
    "SolarizeAdd": _solarize_add,
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "ShearX": lambda image, s: _affine(image, (1, 0.3 * s, 0, 0, 1, 0)),
    "ShearY": lambda image, s: _affine(image, (1, 0, 0, 0.3 * s, 1, 0)),
    "TranslateX": lambda image, s: _affine(image, (1, 0, 0.45 * s * image.width, 0, 1, 0)),
    "TranslateY": lambda image, s: _affine(image, (1, 0, 0, 0, 1, 0.45 * s * image.height)),
}
