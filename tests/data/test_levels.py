"""Grey levels of more than 8 bits: taken down by the range of their format, or refused by name."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from shunted_jax.data.decoding import BadImageError, EncodedImage
from tests.data.images import with_pillow

LEVELS = np.array([[0, 12_000], [50_000, 65_535]], np.uint16)
HIGH_BYTES = np.array([[0, 46], [195, 255]])
FLOATS = np.array([[0.0, 0.25], [0.75, 1.0]], np.float32)


def saved(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def tiff(pixels, *, bits=None, photometric=1, samples="unsigned", order="<", planar=1, extra=None):
    """Returns a TIFF of one strip a plane: Pillow writes few of those that it reads."""
    height, width, colours = (*pixels.shape, 1)[:3]
    planes = [pixels] if planar == 1 else list(np.moveaxis(pixels, 2, 0))
    strips = [plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]
    if bits == 12:
        of_16 = np.unpackbits(pixels.astype(">u2").view(np.uint8)).reshape(-1, 16)
        strips = [np.packbits(of_16[:, 4:]).tobytes()]
    kind = {"unsigned": 1, "signed": 2, "floats": 3}[samples]
    fields = {
        256: [width],
        257: [height],
        258: [bits or 8 * pixels.itemsize] * colours,
        259: [1],  # not compressed
        262: [photometric],
        273: [0] * len(strips),  # where they begin, filled in below
        277: [colours],
        278: [height],
        279: [len(strip) for strip in strips],
        284: [planar],
        338: [] if extra is None else [extra],
        339: [kind] * colours,
    }
    fields = {number: values for number, values in fields.items() if values}
    behind = 8 + 2 + 12 * len(fields) + 4
    beside = {number: values for number, values in fields.items() if len(values) > 1}
    first = behind + sum(4 * len(values) for values in beside.values())
    fields[273][:] = [first + sum(map(len, strips[:i])) for i in range(len(strips))]
    table, long_ones = b"", b""
    for number, values in fields.items():
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, place = struct.pack(f"{order}I", behind + len(long_ones)), packed
            long_ones += place
        table += struct.pack(f"{order}HHI", number, 4, len(values)) + packed
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, len(fields))
    return head + table + bytes(4) + long_ones + b"".join(strips)


def pnm(kind, most, values):
    return f"{kind} 2 2 {most}\n".encode() + np.array(values, ">u2").tobytes()


WIDE = {
    "PNG": (saved(LEVELS, "png"), HIGH_BYTES),
    "JPEG 2000": (saved(np.tile(LEVELS, (16, 16)), "jpeg2000"), np.tile(HIGH_BYTES, (16, 16))),
    "TIFF": (saved(LEVELS, "tiff"), HIGH_BYTES),
    "TIFF, compressed": (saved(LEVELS, "tiff", compression="tiff_lzw"), HIGH_BYTES),
    "TIFF, big-endian": (tiff(LEVELS, order=">"), HIGH_BYTES),
    "TIFF, white is zero": (tiff(LEVELS, photometric=0), 255 - HIGH_BYTES),
    "TIFF, 12 bits": (tiff(LEVELS >> 4, bits=12), HIGH_BYTES),
    "PGM": (pnm("P5", 65_535, LEVELS), HIGH_BYTES),
    "PGM, 12 bits": (pnm("P5", 4095, LEVELS >> 4), HIGH_BYTES),
    "PGM, 0 to 1000": (pnm("P5", 1000, [0, 250, 500, 1000]), [[0, 64], [128, 255]]),
    "PGM as text": (b"P2 2 2 1000\n0 250 500 1000\n", [[0, 64], [128, 255]]),
    "floats": (saved(FLOATS, "tiff"), [[0, 64], [191, 255]]),
    "floats, white is zero": (
        tiff(FLOATS, samples="floats", photometric=0),
        [[255, 191], [64, 0]],
    ),
    "PFM": (b"Pf\n2 2\n-1.0\n" + FLOATS[::-1].astype("<f4").tobytes(), [[0, 64], [191, 255]]),
    # Once in grey, at the opacity that it was multiplied by.
    "TIFF, premultiplied": (
        tiff(np.array([[[50, 127], [100, 255]]], np.uint8), extra=1),
        [[100, 100]],
    ),
}


@pytest.mark.parametrize("name", WIDE)
def test_levels_are_taken_down_by_their_range(name):
    encoded, grey = WIDE[name]
    pixels = EncodedImage(encoded).decode()
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.repeat(np.array(grey)[..., None], 3, axis=2))


COLOURS = np.stack([LEVELS, LEVELS[::-1], LEVELS.T], axis=2)


@pytest.mark.parametrize("order", "<>")
def test_colours_of_16_bits_get_the_same_levels_from_pillow(order):
    encoded = tiff(COLOURS, photometric=2, order=order)
    np.testing.assert_array_equal(EncodedImage(encoded).decode(), COLOURS >> 8)
    np.testing.assert_array_equal(with_pillow(encoded), COLOURS >> 8)


def test_8_bits_stay_as_they_are():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    apart = np.stack([levels, levels.T, levels[::-1]], axis=2)
    for encoded in (
        tiff(levels),
        tiff(levels, photometric=0),
        tiff(apart, photometric=2, planar=2),
        b"P5 16 16 255\n" + levels.tobytes(),
    ):
        np.testing.assert_array_equal(EncodedImage(encoded).decode(), with_pillow(encoded))


UNKNOWN = {
    "floats": (tiff(FLOATS * 815.5 - 3.1, samples="floats"), "32-bit floats from -3.1 to 812.4"),
    "floats to 255": (tiff(FLOATS * 255, samples="floats"), "32-bit floats from 0 to 255"),
    "not a number": (tiff(FLOATS * np.nan, samples="floats"), "32-bit floats from nan to nan"),
    "signed": (tiff(LEVELS.astype(np.int16), samples="signed"), "signed 16-bit integers"),
    "32 bits": (tiff(LEVELS.astype(np.uint32)), "32-bit integers"),
    "signed 32 bits": (saved(LEVELS.astype(np.int32), "tiff"), "signed 32-bit integers"),
    "64-bit floats": (
        tiff(FLOATS.astype(np.float64), samples="floats"),
        "a kind that Pillow cannot",
    ),
    # Pillow would take the low bytes of such colours for the high ones of others.
    "colours apart": (tiff(COLOURS, photometric=2, planar=2), "16 bits whose colours stand apart"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_refused_by_name(name):
    encoded, message = UNKNOWN[name]
    with pytest.raises(BadImageError, match=f"^a TIFF .*of {message}.*save"):
        EncodedImage(encoded).decode()


def test_pillow_alone_would_show_white_black_and_noise():
    assert with_pillow(WIDE["PNG"][0]).flat[3:].min() == 255
    assert with_pillow(WIDE["floats"][0]).max() <= 1
    assert not np.array_equal(with_pillow(UNKNOWN["colours apart"][0]), COLOURS >> 8)
