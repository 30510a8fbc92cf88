"""The stem's kernel for images with other colours than those that it was trained on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

# From a network's parameters to the one array that knows of an image's channels.
STEM = ("stem", "conv_0", "kernel")


def kernel_for(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Returns a kernel for images of so many channels.

    For one channel it is the sum over the channels that there were: a grey image then gives what it
    gave as three equal ones. Otherwise the channels that there were are repeated in turn, and
    scaled by their number over the new one: from 1 to 3, a grey image as three equal channels gives
    what it gave. In between, results keep their size on average, and have to be trained.

    Args:
        kernel: [rows, columns, channels before, features].
        channels: of the images to come.

    Returns:
        [rows, columns, channels, features].
    """
    before = kernel.shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % before] * np.asarray(before / channels, kernel.dtype)


def with_stem_for(params: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Returns parameters, nested dicts, whose stem takes images of so many channels."""
    leaves = traverse_util.flatten_dict(params)
    if STEM in leaves:  # whoever reads a checkpoint says what is missing in it
        leaves[STEM] = kernel_for(np.asarray(leaves[STEM]), channels)
    return traverse_util.unflatten_dict(leaves)
