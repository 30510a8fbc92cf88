"""Encoded image files to RGB pixels: what real collections hold, and nothing silently wrong.

JPEGs are decoded by libjpeg-turbo through simplejpeg, to the very pixels that Pillow gives, in
three quarters of its time (`python -m benchmarks.input`). Everything else goes to Pillow, which
knows the rest: CMYK, PNG, WebP and so on, by what a file holds and not by its name. A camera's EXIF
rotation is ignored, as the published pipeline does.
"""

import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from shunted_jax.adapters.simplejpeg import all_pixels_are_there

_JPEG = b"\xff\xd8"


class BadImageError(ValueError):
    """An image file that cannot be decoded in full."""


class EncodedImage:
    """An image file's bytes: its size is known at once, its pixels are decoded when asked for.

    Attributes:
        height: in pixels, as stored.
        width: likewise.
    """

    def __init__(self, encoded: bytes):
        """Reads the header of `encoded`, an image file; raises `BadImageError` if there is none."""
        self._encoded = encoded
        self._pillow = None
        self._colorspace = None
        if encoded[:2] == _JPEG:
            try:
                self.height, self.width, self._colorspace, _ = simplejpeg.decode_jpeg_header(
                    encoded
                )
            except ValueError as error:
                raise BadImageError(f"a JPEG file without a whole header: {error}") from None
        else:
            self._pillow = _with_pillow(Image.open, io.BytesIO(encoded))
            self.width, self.height = self._pillow.size

    def decode(self, reduce: int = 1) -> np.ndarray:
        """Decodes the pixels.

        Args:
            reduce: 1, 2, 4 or 8: each side of a JPEG comes out so many times smaller, and sooner;
                other formats come out at their full size.

        Returns:
            uint8 [height, width, 3]; a grey image has three equal channels.

        Raises:
            BadImageError: the file is truncated or damaged.
        """
        if self._colorspace is None:
            return _with_pillow(_rgb, self._pillow)
        if self._colorspace in ("CMYK", "YCCK"):
            # Pillow knows how the inks mix, and not when some are missing.
            self._decode_jpeg("CMYK", 1)
            return _with_pillow(lambda: _rgb(Image.open(io.BytesIO(self._encoded))))
        return self._decode_jpeg("RGB", reduce)

    def _decode_jpeg(self, colorspace: str, reduce: int) -> np.ndarray:
        size = {
            "min_height": -(-self.height // reduce),
            "min_width": -(-self.width // reduce),
            "min_factor": reduce,
        }
        try:
            return simplejpeg.decode_jpeg(self._encoded, colorspace, **size)
        except ValueError as error:
            # Stray bytes behind the pixels are common.
            if all_pixels_are_there(error):
                return simplejpeg.decode_jpeg(self._encoded, colorspace, strict=False, **size)
            raise BadImageError(f"a damaged JPEG file: {error}") from None


def _rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def _with_pillow(function, *arguments):
    try:
        with warnings.catch_warnings():
            # Of what does not concern pixels, such as EXIF data or a palette's transparency.
            warnings.simplefilter("ignore")
            return function(*arguments)
    except UnidentifiedImageError:
        raise BadImageError("not an image file of any kind that Pillow knows") from None
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise BadImageError(f"a damaged image file: {error}") from None
