"""What simplejpeg says of stray bytes, and of pixels that are missing."""

import pytest
import simplejpeg

from shunted_jax.adapters.simplejpeg import all_pixels_are_there
from tests.adapters.contract import error_of, seen_with
from tests.data.images import encode, photograph

JPEG = encode(photograph(57, 43))


@seen_with("simplejpeg", "1.9.0", "a strict decoder named extraneous bytes, and only these so")
@pytest.mark.parametrize(
    ("encoded", "there"),
    [(JPEG[:-2] + bytes(20) + JPEG[-2:], True), (JPEG[: len(JPEG) // 2], False)],
)
def test_stray_bytes_are_told_from_missing_pixels(encoded, there):
    error = error_of(simplejpeg.decode_jpeg, encoded)
    assert isinstance(error, ValueError)
    assert all_pixels_are_there(error) == there
