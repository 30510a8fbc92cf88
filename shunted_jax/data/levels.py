"""Grey levels of more than 8 bits to uint8: by the range that the format gives, or not at all.

Pillow clips them at 255, which leaves an image of 16 bits white, and floats in [0, 1] black.
Colours of 16 bits it takes down to 8 by itself, by their high byte. Grey levels get the same here.
"""

import numpy as np
from PIL import Image

from shunted_jax.data.bad_images import BadImageError

# The formats whose integers Pillow gives as they are in the file, or spread over 16 bits.
_UNSIGNED = {"I": ("PNG", "PPM"), "I;16": ("JPEG2000", "PNG", "TIFF"), "I;16B": ("TIFF",)}

# Numbers of TIFF's fields, and values of theirs.
_BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 262, 284, 339
_WHITE_IS_ZERO, _APART, _SIGNED = 0, 2, 2


def are_wide(image: Image.Image) -> bool:
    """Returns whether Pillow would clip an image's levels."""
    return image.mode.startswith(("I", "F"))


def to_8_bits(image: Image.Image) -> np.ndarray:
    """Decodes a grey image of wide levels.

    Args:
        image: as `Image.open` returns it.

    Returns:
        uint8 [height, width]: the high byte of integers; floats in [0, 1] times 255, rounded.

    Raises:
        BadImageError: which levels are black and white is not known: integers that are signed or
            have 32 bits, floats beyond [0, 1].
    """
    if image.mode == "F":
        grey = _from_floats(image)
    elif image.format in _UNSIGNED.get(image.mode, ()):
        bits = _field(image, _BITS, 16)  # 12 or 16
        grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    else:
        signed = " signed" if _field(image, _SAMPLE_FORMAT, 1) == _SIGNED else ""
        bits = _field(image, _BITS, 16 if "16" in image.mode else 32)
        raise _unknown(image, f"of{signed} {bits}-bit integers")
    return 255 - grey if _field(image, _PHOTOMETRIC, None) == _WHITE_IS_ZERO else grey


def check_order(image: Image.Image) -> None:
    """Raises `BadImageError` for colours that Pillow would take from the wrong bytes."""
    wide = _field(image, _BITS, 8) > 8
    if wide and len(image.getbands()) > 1 and _field(image, _PLANAR, 1) == _APART:
        raise BadImageError(
            f"a TIFF of {_field(image, _BITS, 16)} bits whose colours stand apart (planar): save "
            "them pixel by pixel, or as 8 bits"
        )


def _from_floats(image: Image.Image) -> np.ndarray:
    levels = np.asarray(image)
    least, most = levels.min(), levels.max()
    if not (least >= 0 and most <= 1):  # nor numbers that are none
        raise _unknown(image, f"of 32-bit floats from {least:g} to {most:g}")
    return np.round(levels * 255).astype(np.uint8)


def _unknown(image: Image.Image, what: str) -> BadImageError:
    return BadImageError(
        f"a {image.format} {what}: which of them is black and which is white is not known; save it "
        "as 8 or 16 bits, or as floats from 0 to 1"
    )


def _field(image: Image.Image, number: int, default: int | None) -> int | None:
    """Returns a field of a TIFF, the first of its values; the default for any other format."""
    found = getattr(image, "tag_v2", {}).get(number, default)
    return found[0] if isinstance(found, tuple) else found
