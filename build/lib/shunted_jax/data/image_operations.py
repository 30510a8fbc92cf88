"""RandAugment's operations on images, one function each.

Those on pixel values give what Pillow gives, bit for bit, and so does `rotate`, which is Pillow's;
the shears and translations follow Pillow's bicubic kernel and differ from it by one level at fewer
than one value in a hundred. Each one's form was chosen by its time on 224 x 224 pixels.
"""

import cv2
import numpy as np
from PIL import Image

Fill = tuple[int, int, int]

_LEVELS = np.arange(256, dtype=np.float32)
_LUMA = np.array([[19595, 38470, 7471, 32768]], np.float32) / 65536  # the last one rounds
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13

# Pillow cuts off interpolated values where OpenCV rounds them. The nudge keeps a sum that should be
# a whole number, as in an even region, from being cut to the one below; float32 errs by less.
_NUDGE = 1e-4


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel to the full range; [height, width, 3]."""
    # One axis at a time: over both at once numpy takes sixty times as long.
    low, high = image.min(axis=0).min(axis=0), image.max(axis=0).max(axis=0)
    if not low.any() and high.min() == 255:
        return image
    table = np.empty((256, 1, 3), np.uint8)
    for channel, (least, most) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        scale = 255 / (most - least) if most > least else 1
        origin = least * scale if most > least else 0
        table[:, 0, channel] = np.clip(np.arange(256) * scale - origin, 0, 255)
    return cv2.LUT(image, table)


def equalize(image: np.ndarray) -> np.ndarray:
    """Spreads each channel's histogram evenly; [height, width, 3]."""
    table = np.empty((256, 1, 3), np.uint8)
    for channel in range(3):
        counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(int)
        # The brightest value that occurs goes to 255 whatever its share.
        step = int(counts.sum() - counts[counts.nonzero()[0][-1]]) // 255
        below = np.cumsum(counts) - counts
        table[:, 0, channel] = np.minimum((step // 2 + below) // step, 255) if step else _LEVELS
    return cv2.LUT(image, table)


def invert(image: np.ndarray) -> np.ndarray:
    """Turns every value v into 255 - v; [height, width, 3]."""
    return ~image


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the `bits` highest bits, 0 to 8, of every value; [height, width, 3]."""
    return image & np.uint8(256 - 2 ** (8 - bits))


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the values from `threshold` on; [height, width, 3]."""
    # -1 is all bits set. Arithmetic on whole images is several times faster than a table.
    return image ^ -(image >= threshold).view(np.uint8)


def solarize_add(image: np.ndarray, addend: int) -> np.ndarray:
    """Adds `addend`, 0 to 128, to the values below 128; [height, width, 3]."""
    return image + (image < 128).view(np.uint8) * np.uint8(addend)


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Moves pixels away from their own grey (factor above 1) or towards it; [height, width, 3]."""
    pixels = image.astype(np.float32)
    return _blend(cv2.merge([np.floor(_luma(pixels))] * 3), pixels, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Moves values away from the mean grey (factor above 1) or towards it; [height, width, 3]."""
    grey = _luma(image.astype(np.float32)).astype(np.uint8)
    mean = np.floor(cv2.sumElems(grey)[0] / grey.size + 0.5)
    return cv2.LUT(image, _blend(np.float32(mean), _LEVELS, factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Scales every value by `factor`; [height, width, 3]."""
    return cv2.LUT(image, _blend(np.float32(0), _LEVELS, factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Moves every pixel away from its smoothed form (factor above 1) or towards it.

    The outermost pixels stay as they are.

    Args:
        image: [height, width, 3].
        factor: 1 changes nothing.

    Returns:
        [height, width, 3].
    """
    pixels = image.astype(np.float32)
    smooth = np.rint(cv2.filter2D(pixels, -1, _SMOOTH))
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        smooth[edge] = pixels[edge]
    return _blend(smooth, pixels, factor)


def rotate(image: np.ndarray, degrees: float, fill: Fill) -> np.ndarray:
    """Turns the image counterclockwise about its centre; [height, width, 3]."""
    # OpenCV's takes a third of the time and is 0.8 levels off on a photograph, 3 on noise: its
    # kernel is a softer one, at 32 places within a pixel.
    bicubic = Image.Resampling.BICUBIC
    return np.array(Image.fromarray(image).rotate(degrees, bicubic, fillcolor=fill))


def shear_x(image: np.ndarray, slope: float, fill: Fill) -> np.ndarray:
    """Moves row y to the left by slope (y + 1/2) pixels; [height, width, 3]."""
    height, width = image.shape[:2]
    offsets = slope * (np.arange(height) + 0.5)
    shifts = np.floor(offsets + 0.5)
    rows = cv2.copyMakeBorder(image, 0, 0, 2, 2, cv2.BORDER_REPLICATE).reshape(height, -1)
    # [height, 5, width * 3]: every value's neighbourhood, without a copy.
    windows = np.lib.stride_tricks.sliding_window_view(rows.astype(np.float32), 3 * width, axis=1)
    moved = np.einsum("hk,hkn->hn", _bicubic(offsets - shifts), windows[:, ::3])
    moved = np.clip(moved + _NUDGE, 0, 255).astype(np.uint8).reshape(image.shape)
    return _shift_rows(moved, shifts.astype(int), fill)


def shear_y(image: np.ndarray, slope: float, fill: Fill) -> np.ndarray:
    """Moves column x up by slope (x + 1/2) pixels; [height, width, 3]."""
    return cv2.transpose(shear_x(cv2.transpose(image), slope, fill))


def translate_x(image: np.ndarray, share: float, fill: Fill) -> np.ndarray:
    """Moves the image to the left by a share of its width; [height, width, 3]."""
    height, width = image.shape[:2]
    shift = np.floor(share * width + 0.5)
    kernel = _bicubic(share * width - shift)
    delta = _NUDGE - 0.5
    moved = cv2.filter2D(image, -1, kernel, delta=delta, borderType=cv2.BORDER_REPLICATE)
    return _shift_rows(moved, np.full(height, int(shift)), fill)


def translate_y(image: np.ndarray, share: float, fill: Fill) -> np.ndarray:
    """Moves the image up by a share of its height; [height, width, 3]."""
    return cv2.transpose(translate_x(cv2.transpose(image), share, fill))


def _luma(pixels):
    # Float32 holds these sums exactly: they are whole 65536ths below 256.
    return cv2.transform(pixels, _LUMA)


def _blend(degenerate, pixels, factor):
    # In Pillow's order and precision, so that its rounding errors come out the same.
    blended = pixels - degenerate
    blended *= np.float32(factor)
    blended += degenerate
    if factor > 1:
        np.clip(blended, 0, 255, out=blended)
    return blended.astype(np.uint8)


def _bicubic(offsets):
    # The weights [offsets, 5] of a pixel and the two on each side of it, for the place that lies
    # `offsets`, at most half a pixel, to its right. Pillow transforms with a = -1, resizes with
    # -1/2, and OpenCV takes -3/4.
    distance = np.abs(np.arange(-2, 3) - np.reshape(offsets, (-1, 1)))
    near = (distance - 2) * distance**2 + 1
    far = ((5 - distance) * distance - 8) * distance + 4
    return np.where(distance < 1, near, np.where(distance < 2, far, 0)).astype(np.float32)


def _shift_rows(image, shifts, fill):
    # Moves row y to the left by a whole number of pixels, shifts[y].
    height, width = image.shape[:2]
    out = np.empty_like(image)
    out.reshape(height, -1)[:] = np.tile(np.array(fill, np.uint8), width)
    # Neighbouring rows mostly go together, and a block costs what a row does.
    starts = np.flatnonzero(np.diff(shifts, prepend=shifts[0] - 1))
    for start, stop, shift in zip(
        starts.tolist(), [*starts[1:].tolist(), height], shifts[starts].tolist(), strict=True
    ):
        if shift >= 0:
            out[start:stop, : max(width - shift, 0)] = image[start:stop, shift:]
        else:
            out[start:stop, -shift:] = image[start:stop, : max(width + shift, 0)]
    return out
