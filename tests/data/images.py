"""Image files for the tests, made by Pillow."""

import io

import numpy as np
from PIL import Image


def photograph(height, width, seed=0):
    """Returns uint8 [height, width, 3]: structure at several scales, as photographs have."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for cells, contrast in ((2, 0.6), (5, 0.2), (13, 0.1), (40, 0.1)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += contrast * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return pixels.astype(np.uint8)


def encode(image, kind="jpeg", mode="RGB", **options):
    """Returns the bytes of an image file of this kind and mode."""
    if kind == "jpeg":
        options = {"quality": 90} | options
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).convert(mode).save(buffer, format=kind, **options)
    return buffer.getvalue()


def with_pillow(encoded):
    """Returns the pixels that the published pipeline would see."""
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def write_tree(folder, counts, height=40, width=48):
    """Writes counts[split][class] JPEGs, and returns their folder's path as text."""
    seed = 0
    for split, classes in counts.items():
        for name, count in classes.items():
            inside = folder / split / name
            inside.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                (inside / f"{index}.jpg").write_bytes(encode(photograph(height, width, seed)))
                seed += 1
    return str(folder)
