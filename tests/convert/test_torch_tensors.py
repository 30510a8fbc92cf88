"""PyTorch's tensors in memory, which numpy does not always read."""

import jax
import numpy as np

import shunted_jax
from tests.convert.files import small_weights, to_torch_tensors, torch


def test_they_are_taken_as_they_are():
    # numpy takes neither what learns nor bfloat16 (openpi#710, TorchSharp#1204).
    weights = small_weights()
    _, expected = shunted_jax.from_torch(weights)
    as_parameters = {
        name: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in to_torch_tensors(weights).items()
    }
    _, found = shunted_jax.from_torch({"model": as_parameters})
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    _, halved = shunted_jax.from_torch(to_torch_tensors(weights, torch.bfloat16))
    for half, whole in zip(*map(jax.tree.leaves, (halved, expected)), strict=True):
        assert half.dtype == np.float32
        np.testing.assert_allclose(half, whole, rtol=2**-8, atol=0)
