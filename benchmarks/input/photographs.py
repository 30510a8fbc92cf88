"""JPEG files of ImageNet's size, made from scikit-learn's two photographs."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

# (width, height): the most common sizes of ImageNet's photographs, and a few larger ones.
_SIZES = ((500, 375), (500, 333), (375, 500), (500, 400), (400, 300), (333, 500), (1024, 768))
_QUALITY = 90


def make_jpegs(count: int, seed: int = 0) -> list[bytes]:
    """Returns `count` JPEG files: crops of the photographs, several sizes, quality 90.

    Larger ones than the photographs (640 x 427) are enlarged.
    """
    rng = np.random.default_rng(seed)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    return [_jpeg(photographs[i % 2], _SIZES[i % len(_SIZES)], rng) for i in range(count)]


def _jpeg(photograph: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> bytes:
    scale = min(1.0, photograph.width / size[0], photograph.height / size[1])
    width, height = round(size[0] * scale), round(size[1] * scale)
    left = rng.integers(0, photograph.width - width, endpoint=True)
    top = rng.integers(0, photograph.height - height, endpoint=True)
    box = (left, top, left + width, top + height)
    image = photograph.resize(size, Image.Resampling.BICUBIC, box=box)
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=_QUALITY)
    return buffer.getvalue()


def make_tree(folder: Path, jpegs: list[bytes]) -> None:
    """Writes the files as a folder tree with two classes, one a photograph."""
    for index, jpeg in enumerate(jpegs):
        path = folder / "train" / ("china", "flower")[index % 2] / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)
