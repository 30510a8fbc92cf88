"""Paddle's files: samples that it wrote, and others as `pickle` writes what it does."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import shunted_jax
from shunted_jax.convert.cleaning import clean
from shunted_jax.convert.files import read_file, reading
from shunted_jax.convert.finding import find_state_dict
from shunted_jax.errors import UserError
from tests.convert.files import SMALLEST, assert_holds, convert, small_weights
from tests.golden.fill import fill

SAMPLES = Path(__file__).parent / "samples"
# Fields of SMALLEST under which linear layers are not all square.
WIDE = {**SMALLEST, "mlp_ratios": (2,)}


def tensors_in(path):
    with reading(path):
        cleaned = clean(find_state_dict(read_file(path).value))
        return cleaned, {name: np.asarray(tensor) for name, tensor in cleaned.tensors.items()}


@pytest.mark.parametrize("name", ["mini_33", "mini_26_nested", "mini_33_bf16"])
def test_what_paddle_wrote_is_read_exactly(name):
    cleaned, tensors = tensors_in(SAMPLES / f"{name}.pdparams")
    assert (len(tensors), cleaned.renamed, cleaned.transposed) == (31, 2, True)
    assert cleaned.unwrapped == (("model",) if "nested" in name else ())
    for tensor_name, tensor in tensors.items():
        expected = fill(tensor_name, tensor.shape)
        assert tensor.dtype == ("bfloat16" if "bf16" in name else np.float32)
        np.testing.assert_array_equal(tensor, expected.astype(tensor.dtype), err_msg=tensor_name)


def test_a_tensor_written_as_a_call_of_eval_is_data():
    with reading("it"):
        loaded = read_file(SAMPLES / "tiny_33_densetensor_eval.pdparams").value
    tensor = np.asarray(loaded["a"]["w"])
    assert (tensor.shape, tensor.dtype) == ((4, 6), np.float32)
    assert np.isfinite(tensor).all()
    assert tensor.std() > 0.1


@pytest.fixture(scope="module")
def weights():
    # Of which Paddle keeps no counters.
    return small_weights(**WIDE)


def as_paddle(weights, transposed=True):
    names = {"running_mean": "_mean", "running_var": "_variance"}
    tensors = {}
    for name, tensor in weights.items():
        start, _, last = name.rpartition(".")
        if last != "num_batches_tracked":
            turned = tensor.ndim == 2 and transposed
            tensors[f"{start}.{names.get(last, last)}"] = tensor.T.copy() if turned else tensor
    return tensors


def write(saved, path, protocol=4):
    path.write_bytes(pickle.dumps(saved, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_flat_files_with_their_table(protocol, weights, tmp_path, capsys):
    saved = as_paddle(weights)
    saved["StructuredToParameterName@@"] = {name: f"linear_{n}.w_0" for n, name in enumerate(saved)}
    write(saved, tmp_path / "w.pdparams", protocol)
    convert(tmp_path / "w.pdparams", tmp_path / "out")
    said = capsys.readouterr().out
    assert "file        a pickle of Paddle's\n" in said
    assert "turned      linear weights, which lay as Paddle keeps them\n" in said
    assert_holds(tmp_path / "out", weights, mlp_ratios=(2,))


def test_large_tensors_in_pieces(weights, tmp_path, capsys):
    saved = as_paddle(weights)
    whole = saved.pop("head.weight")
    saved |= {"head.weight@@.0": whole.ravel()[:100], "head.weight@@.1": whole.ravel()[100:]}
    about = {"OriginShape": whole.shape, "slices": ["head.weight@@.0", "head.weight@@.1"]}
    saved["UnpackBigParamInfor@@"] = {"head.weight": about}
    write(saved, tmp_path / "w.pdparams", 2)
    convert(tmp_path / "w.pdparams", tmp_path / "out")
    assert_holds(tmp_path / "out", weights, mlp_ratios=(2,))
    for slices in (["head.weight@@.0"], ["head.weight@@.0", "nothing"], 3):
        about["slices"] = slices
        write(saved, tmp_path / "w.pdparams", 2)
        capsys.readouterr()
        convert(tmp_path / "w.pdparams", tmp_path / "2", status=2)
        assert "the pieces of head.weight do not make the tensor" in capsys.readouterr().err


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("suffix", [".safetensors", ".pdparams", ".pth"])
def test_the_layout_is_the_tensors_own_whatever_the_suffix(transposed, suffix, weights, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / f"w{suffix}"
    saved = as_paddle(weights, transposed)
    if suffix == ".safetensors":
        save_file(saved, path)
    else:
        write(saved, path)
    cleaned, tensors = tensors_in(path)
    assert cleaned.transposed is transposed
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, weights[name], err_msg=name)


def test_where_all_weights_are_square_the_marks_decide():
    weights = small_weights(**SMALLEST)
    weights = {name: t for name, t in weights.items() if not name.startswith("head.")}
    assert {t.shape for t in weights.values() if t.ndim == 2} == {(64, 64)}
    for saved in (weights, as_paddle(weights)):  # PyTorch's names, and Paddle's
        model, variables = shunted_jax.from_torch(saved)
        back = shunted_jax.to_torch(model, variables, num_batches_tracked=1000)
        assert back.keys() == weights.keys()
        for name, tensor in weights.items():
            np.testing.assert_array_equal(back[name], tensor, err_msg=name)


def test_weights_that_lie_both_ways_are_refused(weights):
    saved = as_paddle(weights)
    saved["head.weight"] = saved["head.weight"].T
    with pytest.raises(UserError, match=r"1 are \[out, in\], such as head.weight, and [24] are"):
        shunted_jax.from_torch(saved)


def test_names_of_ports(weights):
    # patch_embeddingN.patch_embed, as PaddleViT's relatives say, for patch_embedN.proj.
    two = small_weights(depths=(1, 1), mlp_ratios=(2, 2))
    theirs = {
        name.replace("patch_embed2.proj.", "patch_embedding2.patch_embed.")
        .replace("patch_embed2.norm.", "patch_embedding2.norm.")
        .replace("patch_embed1.", "patch_embedding1."): tensor
        for name, tensor in as_paddle(two).items()
    }
    model, variables = shunted_jax.from_torch(theirs)
    back = shunted_jax.to_torch(model, variables, num_batches_tracked=1000)
    for name, tensor in two.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


def test_static_graphs_are_told_apart(tmp_path, capsys):
    saved = {
        f"{kind}_{n}.{p}_0": np.ones(3) for kind in ("fc", "conv2d") for n in "01" for p in "wb"
    }
    write(saved, tmp_path / "w.pdparams", 2)
    convert(tmp_path / "w.pdparams", tmp_path / "out", status=2)
    said = capsys.readouterr().err
    assert (
        "a static graph of Paddle's, which names them by kind and number, such as fc_0.w_0" in said
    )
    assert 'paddle.save(network.state_dict(), "weights.pdparams")' in said
