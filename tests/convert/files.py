"""Small networks' weights, and files of every kind that hold them."""

import numpy as np
import pytest

import convert_weights
import shunted_jax
from tests.golden.fill import fill

torch = pytest.importorskip("torch")

# A network of two stages with the published 32 channels a head, so that nothing needs to be told.
FIELDS = {
    "depths": (2, 1),
    "embed_dims": (64, 96),
    "num_heads": (2, 3),
    "mlp_ratios": (2, 1),
    "sr_ratios": (4, 1),
    "num_stem_convs": 1,
    "num_classes": 5,
}

# The smallest one that the tensors alone tell everything of.
SMALLEST = {
    "depths": (1,),
    "embed_dims": (64,),
    "num_heads": (2,),
    "mlp_ratios": (1,),
    "sr_ratios": (2,),
    "num_stem_convs": 0,
    "num_classes": 5,
}


def small_weights(seed=0, **changes):
    """Returns the network's tensors as numpy arrays under the published names."""
    from shunted_jax.convert.torch_reference import TorchShunted

    shapes = {n: t.shape for n, t in TorchShunted(**{**FIELDS, **changes}).state_dict().items()}
    return {name: fill(name, shape, seed) for name, shape in shapes.items()}


def to_torch_tensors(weights, dtype=None):
    """Returns tensors; floating-point ones of `dtype`, if given."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    if dtype is None:
        return tensors
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}


def save(saved, path, kind="zip"):
    """Writes what `torch.save` or safetensors make of it."""
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(saved, path)
    else:
        torch.save(saved, path, _use_new_zipfile_serialization=kind == "zip")
    return path


def convert(*arguments, status=0):
    """Runs the command."""
    assert convert_weights.main([str(argument) for argument in arguments]) == status


def assert_holds(folder, weights, **fields):
    """Checks that a checkpoint holds `weights` exactly, of `SMALLEST` or as `fields` say."""
    assert_same(*shunted_jax.load_pretrained(folder), weights, **fields)


def assert_same(model, variables, weights, **fields):
    """Checks that a network and its variables are `weights`, of `SMALLEST` or as `fields` say."""
    for name, value in {**SMALLEST, **fields}.items():
        assert getattr(model, name) == value, name
    back = shunted_jax.to_torch(model, variables, num_batches_tracked=1000)
    assert list(back) == list(weights)
    for name, tensor in weights.items():
        assert back[name].dtype == tensor.dtype, name
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)
