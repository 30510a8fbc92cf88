"""Image files as they come: the pixels that Pillow gives, and nothing where some are missing."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from shunted_jax.data import decoding
from shunted_jax.data.decoding import MOST_PIXELS, BadImageError, EncodedImage
from tests.data.images import encode, photograph, with_pillow

PHOTOGRAPH = photograph(157, 203)
JPEG = encode(PHOTOGRAPH)
HALF = JPEG[: len(JPEG) // 2]


def rotated_by_camera():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    Image.fromarray(PHOTOGRAPH).save(buffer, format="jpeg", exif=exif)
    return buffer.getvalue()


FILES = {
    "4:2:0": JPEG,
    "4:4:4": encode(PHOTOGRAPH, subsampling=0),
    "4:2:2": encode(PHOTOGRAPH, subsampling=1),
    "progressive": encode(PHOTOGRAPH, progressive=True),
    "RGB inside": encode(PHOTOGRAPH, keep_rgb=True),
    "grey": encode(PHOTOGRAPH, mode="L"),
    "CMYK": encode(PHOTOGRAPH, mode="CMYK"),
    "one pixel": encode(PHOTOGRAPH[:1, :1]),
    "turned by EXIF": rotated_by_camera(),
    "bytes behind it": JPEG + b"uploaded by",
    "PNG": encode(PHOTOGRAPH, "png"),
    "palette PNG": encode(PHOTOGRAPH, "png", mode="P"),
    "grey PNG": encode(PHOTOGRAPH, "png", mode="L"),
    "bilevel PNG": encode(PHOTOGRAPH, "png", mode="1"),
    "transparent PNG": encode(PHOTOGRAPH, "png", mode="RGBA"),
    "WebP": encode(PHOTOGRAPH, "webp"),
    "GIF": encode(PHOTOGRAPH, "gif"),
    "BMP": encode(PHOTOGRAPH, "bmp"),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_pillows(name):
    image, expected = EncodedImage(FILES[name]), with_pillow(FILES[name])
    assert (image.height, image.width) == expected.shape[:2]
    pixels = image.decode()
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


def test_rotation_by_exif_is_there_to_be_ignored():
    assert Image.open(io.BytesIO(rotated_by_camera())).getexif()[0x0112] == 6
    assert EncodedImage(rotated_by_camera()).decode().shape == PHOTOGRAPH.shape


@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
def test_jpegs_decode_at_a_fraction_of_their_size(reduce):
    pixels = EncodedImage(FILES["4:4:4"]).decode(reduce)
    assert pixels.shape == (-(-157 // reduce), -(-203 // reduce), 3)
    averages = np.asarray(
        Image.fromarray(PHOTOGRAPH).resize(pixels.shape[1::-1], Image.Resampling.BOX)
    )
    assert np.mean(np.abs(pixels.astype(int) - averages)) < 3


def test_other_formats_decode_whole():
    assert EncodedImage(FILES["PNG"]).decode(4).shape == PHOTOGRAPH.shape
    assert EncodedImage(FILES["CMYK"]).decode(4).shape == PHOTOGRAPH.shape


def test_stray_bytes_before_the_end_are_no_damage():
    encoded = JPEG[:-2] + b"\x12\x34\x56\x78" + JPEG[-2:]
    np.testing.assert_array_equal(EncodedImage(encoded).decode(), with_pillow(encoded))
    np.testing.assert_array_equal(EncodedImage(encoded).decode(), with_pillow(JPEG))


DAMAGED = {
    "truncated": HALF,
    "truncated and closed": HALF + b"\xff\xd9",
    "zeros from half on": HALF + bytes(len(JPEG) - len(HALF)),
    "without its last bytes": JPEG[:-10],
    "header alone": JPEG[:300],
    "start of the header": JPEG[:20],
    "truncated progressive": FILES["progressive"][: len(HALF)],
    "truncated CMYK": FILES["CMYK"][:-3000],
    "truncated CMYK, closed": FILES["CMYK"][:-3000] + b"\xff\xd9",
    "truncated grey": FILES["grey"][:-1000],
    "truncated PNG": FILES["PNG"][:-5000],
    "truncated palette PNG": FILES["palette PNG"][:-2000],
    "empty": b"",
    "zeros": bytes(1000),
    "a web page": b"<html><body>not found</body></html>",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_not_whole_is_refused(name):
    with pytest.raises(BadImageError, match="."):
        EncodedImage(DAMAGED[name]).decode()


def test_a_jpeg_of_12_bits_is_not_called_damaged_alone():
    jpeg = bytearray(JPEG)
    jpeg[jpeg.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(BadImageError, match="or of a rare kind: .*precision 12"):
        EncodedImage(bytes(jpeg)).decode()


def test_some_of_those_would_pass_in_silence():
    # Why the strictness: Pillow fills what is missing with grey.
    for name in ("truncated and closed", "truncated CMYK, closed"):
        assert with_pillow(DAMAGED[name]).shape == PHOTOGRAPH.shape


def png_that_claims(width, height):
    """Returns a grey PNG of a few bytes whose header has this size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def test_large_images_are_no_bombs():
    # Pillow's own limit is at 179 million pixels.
    for width, height in ((13_500, 13_500), (23_170, 23_170)):
        image = EncodedImage(png_that_claims(width, height))
        assert (image.height, image.width) == (height, width)


def test_bombs_are_refused_with_their_size_and_the_limit():
    with pytest.raises(BadImageError, match=f"too large.*10000000000 pixels.*{MOST_PIXELS}"):
        EncodedImage(png_that_claims(100_000, 100_000))
    jpeg = bytearray(JPEG)
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 50_000)
    image = EncodedImage(bytes(jpeg))
    with pytest.raises(BadImageError, match=f"50,000 x 65,000 pixels, and {MOST_PIXELS:,} are"):
        image.decode()


def test_the_limit_is_of_what_is_decoded(monkeypatch):
    monkeypatch.setattr(decoding, "MOST_PIXELS", 157 * 203 // 4 + 203)
    with pytest.raises(BadImageError, match="too large"):
        EncodedImage(JPEG).decode()
    assert EncodedImage(JPEG).decode(reduce=2).shape == (79, 102, 3)


@pytest.mark.proof
def test_182_million_pixels_are_decoded():
    buffer = io.BytesIO()
    Image.new("1", (13_500, 13_500), 1).save(buffer, format="png")
    pixels = EncodedImage(buffer.getvalue()).decode()
    assert pixels.shape == (13_500, 13_500, 3)
    assert pixels[0, 0, 0] == pixels[-1, -1, 2] == 255
