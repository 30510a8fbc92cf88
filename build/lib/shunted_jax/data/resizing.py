"""Bicubic resizing with antialiasing: Pillow's to the digit, and a quick one for training."""

import math
import threading

import numpy as np
from PIL import Image

try:
    import cykooz_resizer
except ModuleNotFoundError:  # it has no wheels for some platforms, and is quick, not necessary
    cykooz_resizer = None

Box = tuple[float, float, float, float]  # top, left, height, width, in pixels

_of_thread = threading.local()  # a resizer keeps its buffers, and serves one thread at a time


def resize(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Resizes a part of an image to a square, for training.

    The filter is Pillow's, in SIMD instructions: a fifth of its time, and on photographs 0.1 grey
    levels from it on average (`python -m benchmarks.input`). Without cykooz.resizer, Pillow
    itself.

    Args:
        image: uint8 [height, width, 3].
        box: the part; it may begin and end between two pixels.
        size: of the result, in pixels.

    Returns:
        uint8 [size, size, 3].
    """
    top, left, height, width = box
    first_row, first_column = math.floor(top), math.floor(left)
    image = image[first_row : math.ceil(top + height), first_column : math.ceil(left + width)]
    # What is left to cut off: fractions of a pixel.
    top, left = top - first_row, left - first_column
    height, width = min(height, image.shape[0] - top), min(width, image.shape[1] - left)
    if cykooz_resizer is None:
        corners = (left, top, left + width, top + height)
        square = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=corners)
        return np.asarray(square)
    pixels = cykooz_resizer.PixelType.U8x3
    source = cykooz_resizer.ImageData(image.shape[1], image.shape[0], pixels, image.tobytes())
    target = cykooz_resizer.ImageData(size, size, pixels)
    if not hasattr(_of_thread, "resizer"):
        _of_thread.resizer = cykooz_resizer.Resizer()
    options = cykooz_resizer.ResizeOptions(
        resize_alg=cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.catmull_rom),
        crop_box=cykooz_resizer.CropBox(left, top, width, height),
    )
    _of_thread.resizer.resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size, size, 3)


def resize_and_center_crop(image: np.ndarray, short_side: int, size: int) -> np.ndarray:
    """Resizes so that the short side has `short_side` pixels, then crops the centre.

    Pillow's pixels, every one: published scores were measured on them. Computing only those that
    are kept would save a third, but Pillow places such a box in float32, up to two grey levels off.

    Args:
        image: uint8 [old height, old width, 3].
        short_side: after resizing, in pixels; at least `size`.
        size: of the crop, in pixels.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = resized_shape(*image.shape[:2], short_side)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    # Halves to even, as Python and the published pipeline round.
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.asarray(resized)[top : top + size, left : left + size]


def resized_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Returns (height, width) with that short side; the long one is rounded down."""
    if height <= width:
        return short_side, short_side * width // height
    return short_side * height // width, short_side
