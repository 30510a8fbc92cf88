"""Files damaged at random: an exact load or a clear message, never anything between.

`make mutations` runs 2,000 of them; the suite runs fewer (SHUNTED_JAX_MUTATIONS says how many).
"""

import os
import random
import shutil

import numpy as np
import pytest

import convert_weights
import shunted_jax
from tests.convert.files import SMALLEST, save, small_weights, to_torch_tensors, torch

COUNT = int(os.environ.get("SHUNTED_JAX_MUTATIONS", "60"))


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
    kinds = [torch.int64, torch.bool, torch.complex64, torch.float64, torch.bfloat16, torch.uint8]
    tensors[name] = tensors[name].to(rng.choice(kinds))


def change_shape(path, tensors, rng):
    name = rng.choice(sorted(tensors))
    t = tensors[name]
    tensors[name] = rng.choice([t[None], t.flatten(), t.flatten()[:1], t.flatten()[:0]]).clone()


def drop_key(path, tensors, rng):
    del tensors[rng.choice(sorted(tensors))]


ON_TENSORS = [swap_tensors, rename_key, change_type, change_shape, drop_key]
ON_BYTES = [flip_bits, flip_bits, flip_bits, truncate]


def what_the_file_says(path, kind):
    """Returns the file's own tensors, read by torch or safetensors themselves."""
    if kind == "safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_load_exactly_or_say_why_not(kind, tmp_path, capsys):
    rng = random.Random(kind)
    outcomes = {"loaded": 0, "refused": 0}
    path, out = tmp_path / "w.pth", tmp_path / "out"
    for number in range(-(-COUNT // 3)):
        tensors = to_torch_tensors(small_weights(seed=number % 5, **SMALLEST))
        mutation = rng.choice(ON_TENSORS + ON_BYTES)
        if mutation in ON_TENSORS:
            mutation(path, tensors, rng)
            save(tensors, path, kind)
        else:
            save(tensors, path, kind)
            mutation(path, tensors, rng)
        status = convert_weights.main([str(path), str(out)])
        said = capsys.readouterr()
        left = {entry.name for entry in tmp_path.iterdir()} - {"w.pth"}
        case = f"{kind} {number} {mutation.__name__}: {said.err}"
        if status == 0:
            assert left == {"out"}, case
            model, variables = shunted_jax.load_pretrained(out)
            ours = shunted_jax.to_torch(model, variables)
            theirs = {
                name.replace("mlp.dwconv.weight", "mlp.dwconv.dwconv.weight"): tensor
                for name, tensor in what_the_file_says(path, kind).items()
            }
            for name, array in ours.items():
                if not name.endswith("num_batches_tracked"):
                    expected = theirs[name].to(torch.float32).numpy()
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
    assert outcomes["refused"] >= COUNT // 12
    assert outcomes["loaded"] >= 1
