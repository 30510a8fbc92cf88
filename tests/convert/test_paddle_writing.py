"""`.pdparams`: Paddle's names and layouts, as a pickle that holds nothing but numpy arrays."""

import pickle

import numpy as np

import convert_weights
import shunted_jax
from shunted_jax.convert.torch_files import write_tensors
from tests.convert.files import FIELDS, assert_holds, save, small_weights, to_torch_tensors


def test_names_and_layouts_are_paddles(tmp_path):
    weights = small_weights()
    model, variables = shunted_jax.from_torch(weights)
    write_tensors(tmp_path / "w.pdparams", shunted_jax.to_torch(model, variables))
    content = (tmp_path / "w.pdparams").read_bytes()
    assert content[:2] == b"\x80\x04"
    found = pickle.loads(content)
    table = found.pop("StructuredToParameterName@@")
    assert list(table) == list(table.values()) == list(found)
    expected = {}
    for name, tensor in weights.items():
        if not name.endswith("num_batches_tracked"):
            name = name.replace(".running_mean", "._mean").replace(".running_var", "._variance")
            expected[name] = tensor.T if tensor.ndim == 2 else tensor
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].flags.c_contiguous
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    # Of each kind, one as Paddle shows it.
    assert found["block1.0.mlp.fc1.weight"].shape == (64, 128)
    assert found["block1.0.attn.sr1.weight"].shape == (64, 64, 4, 4)
    assert found["patch_embed1.conv.1._mean"].shape == (64,)


def test_what_is_written_is_read(tmp_path):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.safetensors", "safetensors")
    for arguments in (
        ["w.safetensors", "out"],
        ["--to-torch", "out", "w.pdparams"],
        ["w.pdparams", "again"],
    ):
        names = [n if n.startswith("--") else str(tmp_path / n) for n in arguments]
        assert convert_weights.main(names) == 0
    assert_holds(tmp_path / "again", weights, **FIELDS)
