"""Files damaged at random: an exact load or a clear message, never anything between.

`make mutations` runs 10,000 of them; the suite runs fewer (SHUNTED_JAX_MUTATIONS says how many).
"""

import io
import os
import pickle
import random
import shutil
import types

import numpy as np
import pytest

import convert_weights
import shunted_jax
from tests.convert.files import SMALLEST, save, small_weights, to_torch_tensors, torch

COUNT = int(os.environ.get("SHUNTED_JAX_MUTATIONS", "60"))
KINDS = ["zip", "legacy", "safetensors", "pickle", "paddle", "module", "script"]


def flip_bits(path, tensors, rng):
    content = bytearray(path.read_bytes())
    # Most of a file is numbers; its beginning and its end say what they are.
    spans = [(0, len(content)), (0, 2000), (len(content) - 2000, len(content))]
    for _ in range(rng.choice([1, 1, 4, 64])):
        first, last = rng.choice(spans)
        content[rng.randrange(max(first, 0), last)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path, tensors, rng):
    size = path.stat().st_size
    path.write_bytes(
        path.read_bytes()[: rng.choice([rng.randrange(size), size - rng.randrange(64)])]
    )


def swap_tensors(path, tensors, rng):
    a, b = rng.sample(sorted(tensors), 2)
    tensors[a], tensors[b] = tensors[b], tensors[a]


def rename_key(path, tensors, rng):
    name = rng.choice(sorted(tensors))
    at = rng.randrange(len(name))
    other = name[:at] + rng.choice("0123456789.xé") + name[at + rng.choice([0, 1]) :]
    tensors[other] = tensors.pop(name)


def change_type(path, tensors, rng):
    name = rng.choice(sorted(tensors))
    kinds = [torch.int64, torch.bool, torch.complex64, torch.float64, torch.float16, torch.uint8]
    tensors[name] = tensors[name].to(rng.choice(kinds))


def change_shape(path, tensors, rng):
    name = rng.choice(sorted(tensors))
    t = tensors[name]
    tensors[name] = rng.choice([t[None], t.flatten(), t.flatten()[:1], t.flatten()[:0]]).clone()


def drop_key(path, tensors, rng):
    del tensors[rng.choice(sorted(tensors))]


ON_TENSORS = [swap_tensors, rename_key, change_type, change_shape, drop_key]
ON_BYTES = [flip_bits, flip_bits, flip_bits, truncate]


class Lenient(pickle._Unpickler):
    """Python's own machine, which has a stand-in for each name that damage made of another.

    The one in C takes memory for each number in the memo up to the one that the file says.
    """

    def find_class(self, module, name):
        if name == "_reconstruct":  # which takes memory for whatever size the file says
            return lambda *_: np.zeros(0, np.int8)
        if module.startswith(
            ("torch", "numpy", "collections", "_codecs", "shunted_jax.convert.torch")
        ):
            try:
                return super().find_class(module, name)
            except (ImportError, AttributeError):
                pass
        return StandIn


class StandIn(dict):
    def __init__(self, *_):
        pass


LENIENT = types.ModuleType("lenient")
LENIENT.Unpickler = Lenient
LENIENT.load = lambda file, **_: Lenient(file).load()
ARCHIVES = ("zip", "module", "script")  # which have checksums


def what_the_file_says(path, kind, undamaged):
    """Returns the file's own tensors, read by the library that wrote it.

    Where that one stumbles over damage to something else, they are those from before the damage.
    """
    try:
        return read_by_others(path, kind)
    except Exception:
        return undamaged


def read_by_others(path, kind):
    if kind == "safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if kind in ("pickle", "paddle"):
        arrays = Lenient(io.BytesIO(path.read_bytes())).load()
        if kind == "pickle":
            return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        tensors = {}
        for name, array in arrays.items():
            if isinstance(array, np.ndarray):
                turned = np.array(array.T if array.ndim == 2 else array)
                for theirs, ours in (("_mean", "running_mean"), ("_variance", "running_var")):
                    name = name.replace(theirs, ours)
                tensors[name] = torch.from_numpy(turned)
        return tensors
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=LENIENT)


def whole_networks(fields):
    """Returns files of a network itself, by their kinds: each takes a while to be written."""
    from shunted_jax.convert.torch_reference import TorchShunted

    network = TorchShunted(**{"in_channels": 3, **fields})
    network.load_state_dict(to_torch_tensors(small_weights(**fields)))
    network.eval()
    streams = {"module": io.BytesIO(), "script": io.BytesIO()}
    torch.save(network, streams["module"])
    image = torch.zeros(1, network.patch_embed1.conv[0].in_channels, 32, 32)
    traced = torch.jit.trace(network, image, check_trace=False)
    torch.jit.save(traced, streams["script"])
    return {kind: stream.getvalue() for kind, stream in streams.items()}


@pytest.fixture(scope="module")
def networks():
    return whole_networks(SMALLEST)


def write(tensors, path, kind):
    if kind not in ("pickle", "paddle"):
        save(tensors, path, kind)
        return
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    if kind == "paddle":
        names = {"running_mean": "_mean", "running_var": "_variance"}
        arrays = {
            ".".join(names.get(part, part) for part in name.split(".")): array.T.copy()
            if array.ndim == 2
            else array
            for name, array in arrays.items()
        }
        arrays["StructuredToParameterName@@"] = {name: f"w_{n}" for n, name in enumerate(arrays)}
    path.write_bytes(pickle.dumps(arrays, protocol=2 if kind == "paddle" else 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_load_exactly_or_say_why_not(kind, networks, tmp_path, capsys):
    rng = random.Random(kind)
    outcomes = {"loaded": 0, "refused": 0}
    path, out = tmp_path / "w.pth", tmp_path / "out"
    number_of_files = -(-COUNT // len(KINDS))
    for number in range(number_of_files):
        seed = 0 if kind in networks else number % 5
        tensors = to_torch_tensors(small_weights(seed=seed, **SMALLEST))
        mutation = rng.choice(ON_BYTES if kind in networks else ON_TENSORS + ON_BYTES)
        if mutation in ON_TENSORS:
            mutation(path, tensors, rng)
            write(tensors, path, kind)
        else:
            if kind in networks:
                path.write_bytes(networks[kind])
            else:
                write(tensors, path, kind)
            mutation(path, tensors, rng)
        status = convert_weights.main([str(path), str(out)])
        said = capsys.readouterr()
        left = {entry.name for entry in tmp_path.iterdir()} - {"w.pth"}
        case = f"{kind} {number} {mutation.__name__}: {said.err}"
        if status == 0:
            assert left == {"out"}, case
            model, variables = shunted_jax.load_pretrained(out)
            ours = shunted_jax.to_torch(model, variables)
            checked = kind in ARCHIVES and mutation in ON_BYTES
            said_by_others = tensors if checked else what_the_file_says(path, kind, tensors)
            theirs = {
                name.replace("mlp.dwconv.weight", "mlp.dwconv.dwconv.weight"): tensor
                for name, tensor in said_by_others.items()
                if isinstance(tensor, torch.Tensor)
            }
            for name, array in ours.items():
                if not name.endswith("num_batches_tracked"):
                    expected = theirs[name].detach().to(torch.float32).numpy()
                    np.testing.assert_array_equal(array, expected, err_msg=case)
            assert {n for n in theirs if "num_batches_tracked" not in n} <= set(ours), case
            shutil.rmtree(out)
            outcomes["loaded"] += 1
        else:
            assert status == 2, case
            assert not left, case
            assert said.err.startswith("convert_weights.py: "), case
            assert "Traceback" not in said.err, case
            assert len(said.err) < 5000, case
            outcomes["refused"] += 1
    # The mutations are strong enough to be noticed, and not all of them destroy the file.
    assert outcomes["refused"] >= number_of_files // 4
    assert outcomes["loaded"] >= number_of_files // 50
