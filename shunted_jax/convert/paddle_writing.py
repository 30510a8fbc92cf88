"""The network's tensors as Paddle saves a state dict: `.pdparams`, written without Paddle.

Such a file is a pickle of names to numpy arrays, with a table of the names that Paddle uses inside.
Linear weights are [in, out] there, and batch norm's statistics have names of their own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shunted_jax.convert.names import COUNTER
from shunted_jax.convert.paddle import NAMES

_STATISTICS = {".running_mean": "._mean", ".running_var": "._variance"}


def to_paddle(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns what `paddle.load` gives of the file, and the table.

    Args:
        state_dict: the published names to arrays, in PyTorch's layout.
    """
    tensors = {}
    for name, tensor in state_dict.items():
        if name.endswith(COUNTER):  # which Paddle's batch norm does not have
            continue
        for theirs, paddles in _STATISTICS.items():
            if name.endswith(theirs):
                name = name.removesuffix(theirs) + paddles
        # Of this network's arrays, the weights of linear layers alone have two axes.
        tensors[name] = np.ascontiguousarray(tensor.T if tensor.ndim == 2 else tensor)
    return {**tensors, NAMES: {name: name for name in tensors}}
