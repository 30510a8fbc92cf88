"""Tensors as `torch.load` and numpy read them, bit for bit: every type, view and way of saving."""

import collections
import pickle
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from shunted_jax.convert.files import read_file, reading
from shunted_jax.convert.pickles import Record, Stored
from shunted_jax.errors import UserError
from tests.convert.files import torch

DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
# Without storages of their own, and in the older form of torch.save not read by torch.load.
NEWER = "uint16 uint32 uint64 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
NEWER += " float8_e8m0fnu"


def read(path):
    with reading(path):
        return read_file(path).value


def bits(tensor):
    """Returns a tensor's type, shape and bytes, by torch's own reckoning or by numpy's."""
    if isinstance(tensor, torch.Tensor):
        tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
        raw = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), raw
    array = np.asarray(tensor)
    return array.dtype.name, array.shape, array.tobytes()


def every_sort(dtypes):
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (6 * 4 * 16,), dtype=torch.uint8, generator=generator)
    tensors = {}
    for name in dtypes.split():
        dtype = getattr(torch, name)
        source = raw % 2 if dtype == torch.bool else raw
        whole = source.view(dtype)[: 6 * 4].reshape(6, 4).clone()
        tensors |= {
            name: whole,
            f"{name} transposed": whole.T,
            f"{name} every second": whole[::2, 1::2],
            f"{name} of no axes": whole[1, 2],
            f"{name} empty": whole[:0],
            f"{name} expanded": whole[:1, :1].expand(3, 5),
        }
    base = torch.arange(24.0)
    tensors["a view"], tensors["another"] = base[3:9].view(2, 3), base[6:]
    tensors["a parameter"] = torch.nn.Parameter(base)
    tensors["with attributes"] = torch.nn.Parameter(torch.ones(2))
    tensors["with attributes"].no_weight_decay = True
    tensors["a tensor with attributes"] = torch.ones(3)
    tensors["a tensor with attributes"].note = "so"
    tensors["a buffer"] = torch.nn.Buffer(torch.ones(2))
    tensors["conjugated"] = torch.tensor([1 + 2j, 3 - 4j]).conj()
    tensors["negated"] = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    tensors["as strided"] = torch.as_strided(base, (4, 3, 2), (2, 3, 1), 5)
    tensors["channels last"] = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors["three axes"] = base.view(2, 3, 4).permute(2, 0, 1)
    return tensors


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_sort_of_tensor_is_read_as_torch_reads_it(kind, protocol, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(
        collections.OrderedDict(every_sort(DTYPES + (f" {NEWER}" if kind == "zip" else ""))),
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=kind == "zip",
    )
    theirs = torch.load(path, weights_only=False)
    ours = read(path)
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert isinstance(ours[name], Stored), name
        assert ours[name].shape == tuple(tensor.shape), name
        assert bits(ours[name]) == bits(tensor), name


SIGNED = ["f2", "f4", "f8", "i1", "i2", "i8", "c8"]
ARRAYS = {
    **{
        n: np.arange(-3, 3).astype(n).reshape(2, 3)
        for n in ["f2", "f4", "f8", "i1", "i2", "i8", "c8"]
    },
    **{f"{name}, high byte first": np.arange(6).astype(name) for name in (">f4", ">i8", ">u2")},
    "bool": np.array([True, False]),
    "unsigned": np.arange(300, dtype=np.uint16),
    "bfloat16": np.arange(4).astype(ml_dtypes.bfloat16),
    "Fortran": np.asfortranarray(np.arange(600.0).reshape(20, 30)),
    "strided": np.arange(600.0).reshape(20, 30)[::2, ::3],
    "large": np.arange(5000.0).reshape(50, 100),
    "no axes": np.array(3.5),
    "empty": np.zeros((3, 0), np.float32),
    "scalar": np.float64(2.5),
    "whole scalar": np.int64(-7),
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_sort_of_array_is_read_as_numpy_reads_it(protocol, tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(ARRAYS, protocol=protocol))
    ours = read(path)
    assert list(ours) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert ours[name].shape == np.shape(array), name
        found = np.asarray(ours[name])
        assert found.dtype == array.dtype, name
        np.testing.assert_array_equal(found, array, err_msg=name)
        assert found.flags.writeable, name


def test_plain_data_is_read_as_pickle_reads_it(tmp_path):
    plain = {
        "text": ["", "a", "é\n'\"\\", "\udc80", "x" * 200],
        "numbers": [0, -1, 255, 65535, -(2**31), 2**70, -(2**2100), 0.1, float("inf"), True, None],
        "bytes": [b"", b"\x00\xff'\\"],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((1,), [2])],
        "dicts": [{}, {"a": {}}, {1: 2.5, None: 3, 2.5: 4, False: 5, b"k": 6}],
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "default": collections.defaultdict(list, {"a": [1]}),
    }
    plain["again"] = plain["tuples"]
    for protocol in range(6):
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(plain, protocol=protocol))
        ours = read(tmp_path / "w.pkl")
        assert ours == plain
        assert [list(map(type, v)) for v in ours["dicts"]] == [
            list(map(type, v)) for v in plain["dicts"]
        ]
        assert ours["again"] is ours["tuples"]


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.filterwarnings("ignore")  # torch's, of what it will not make for long
def test_what_is_no_plain_tensor_is_a_record_with_a_name(kind, tmp_path):
    saved = {
        "sparse": torch.ones(3).to_sparse(),
        "meta": torch.ones(3, device="meta"),
        "subclass": torch.ones(3).as_subclass(Sub),
        "set": {1, 2},
        "complex": 1 + 2j,
        "slice": slice(1, 2),
        "half complex": torch.zeros(2, dtype=torch.complex32),
    }
    if kind == "zip":
        saved["quantised"] = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=kind == "zip")
    ours = read(tmp_path / "w.pth")
    assert ours.pop("set") == [1, 2]
    names = {name: value.name for name, value in ours.items() if isinstance(value, Record)}
    expected = {
        "sparse": "torch._utils._rebuild_sparse_tensor",
        "meta": "torch._utils._rebuild_meta_tensor_no_storage",
        "subclass": f"{__name__}.Sub",
        "complex": "builtins.complex",
        "slice": "builtins.slice",
        "half complex": "torch.complex32",
        "quantised": "torch._utils._rebuild_qtensor",
    }
    assert names == {name: expected[name] for name in saved if name != "set"}


class Sub(torch.Tensor):
    pass


def test_tensors_stay_in_the_file_until_they_are_asked_for(tmp_path):
    tensors = {str(n): torch.full((1 << 20,), float(n)) for n in range(8)}  # 4 MiB each
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    torch.save(tensors, tmp_path / "zip")
    torch.save(tensors, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    for protocol in (2, 4):
        (tmp_path / f"pickle {protocol}").write_bytes(pickle.dumps(arrays, protocol))
    for path in sorted(tmp_path.iterdir()):
        tracemalloc.start()
        loaded = read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20, path
        for name, tensor in loaded.items():
            assert float(np.asarray(tensor).sum()) == float(name) * (1 << 20)
        times = 5 if path.name == "pickle 2" else 1  # whose bytes are text
        assert tracemalloc.get_traced_memory()[1] < (times + 1) << 22, path
        tracemalloc.stop()


def test_the_high_byte_first_is_refused_by_name(tmp_path):
    import zipfile

    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as there,
        zipfile.ZipFile(tmp_path / "big.pth", "w") as other,
    ):
        for info in there.infolist():
            content = b"big" if info.filename.endswith("byteorder") else there.read(info)
            other.writestr(info.filename, content)
    with pytest.raises(UserError, match="puts the high byte first"):
        read(tmp_path / "big.pth")
