"""Files from strangers: nothing in them is ever run, and each mistake has its own message."""

import argparse
import os

import numpy as np
import pytest

import convert_weights
from tests.convert.files import SMALLEST, save, small_weights, to_torch_tensors, torch


class Malicious:
    """What a pickle calls when it is read: a command that leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def refuse(path, out, capsys):
    """Returns what the command says, after checking that it refused and left nothing."""
    before = set(path.parent.iterdir())
    assert convert_weights.main([str(path), str(out)]) == 2
    assert set(path.parent.iterdir()) == before
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("convert_weights.py: ")
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("where", ["alone", "beside", "in a namespace", "as a tensor"])
def test_malicious_pickles_leave_no_trace_of_having_run(where, kind, tmp_path, capsys):
    mark = tmp_path / "mark"
    tensors = to_torch_tensors(small_weights())
    saved = {
        "alone": Malicious(mark),
        "beside": {"model": tensors, "epoch": Malicious(mark)},
        "in a namespace": {"model": tensors, "args": argparse.Namespace(lr=Malicious(mark))},
        "as a tensor": {**tensors, "norm1.weight": Malicious(mark)},
    }[where]
    save(saved, tmp_path / "w.pth", kind)
    said = refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert "system, which weights do not need" in said
    assert "nothing was run" in said
    assert not mark.exists()
    # The file is indeed malicious: read the careless way, it leaves its mark.
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "is a web page"),
        (b"<html><head></head></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git-lfs pull"),
        (b"hello, this is no checkpoint", "neither a PyTorch nor a safetensors file"),
        (b"Look, neither is this", "neither a PyTorch nor a safetensors file"),
        (b"PK\x03\x04" + bytes(100), "is damaged or not a checkpoint"),
        (b"\x80\x02" + bytes(100), "is damaged or not a checkpoint"),
        ((40).to_bytes(8, "little") + b"{" + bytes(100), "is damaged or not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_said(content, message, tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(content)
    said = refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert message.replace("git-lfs pull", "run git lfs pull") in said


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_said_to_be_damaged(kind, tmp_path, capsys):
    path = save(to_torch_tensors(small_weights()), tmp_path / "w.pth", kind)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "is damaged or not a checkpoint" in refuse(path, tmp_path / "out", capsys)


def test_flipped_bit_in_an_archive_is_found_by_its_checksum(tmp_path, capsys):
    path = save(to_torch_tensors(small_weights()), tmp_path / "w.pth")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "checksum" in refuse(path, tmp_path / "out", capsys)


def test_folders_and_missing_files_are_said(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    assert "is a folder" in refuse(tmp_path / "folder", tmp_path / "out", capsys)
    assert "does not exist" in refuse(tmp_path / "nothing", tmp_path / "out", capsys)


def test_files_that_cannot_be_opened_are_not_said_to_be_damaged(tmp_path, capsys, monkeypatch):
    save(to_torch_tensors(small_weights()), tmp_path / "w.pth")

    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shunted_jax.convert.files.Source", locked)
    said = refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert said == f"convert_weights.py: {tmp_path / 'w.pth'} cannot be read: Permission denied\n"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["conv1.weight", "layer1.0.conv1.weight"], "a ResNet's checkpoint"),
        (["pos_embed1", "block1.0.attn.sr.weight"], "a Pyramid Vision Transformer's (PVT)"),
        (["module.layer1.0.conv1.weight"], "a ResNet's checkpoint"),
        (["a", "b"], "no Shunted Transformer's checkpoint: none of its 2 tensors"),
    ],
)
def test_other_networks_are_named(names, message, tmp_path, capsys):
    save({name: torch.ones(3) for name in names}, tmp_path / "w.pth")
    assert message in refuse(tmp_path / "w.pth", tmp_path / "out", capsys)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([torch.ones(3)], "holds a list"),
        ({"epoch": 3, "lr": 1.0}, "holds no tensors; at its top it has epoch, lr"),
        (torch.ones(3), "holds a tensor"),
    ],
)
def test_files_without_a_state_dict_are_said(saved, message, tmp_path, capsys):
    save(saved, tmp_path / "w.pth")
    assert message in refuse(tmp_path / "w.pth", tmp_path / "out", capsys)


def test_a_pth_is_not_written_without_torch(tmp_path, capsys, monkeypatch):
    path = save(to_torch_tensors(small_weights()), tmp_path / "w.pth")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert convert_weights.main([str(path), str(tmp_path / "out")]) == 0  # which reading needs not
    capsys.readouterr()
    assert convert_weights.main(["--to-torch", str(tmp_path / "out"), str(tmp_path / "b.pth")]) == 2
    assert "pip install 'torch>=2.10'" in capsys.readouterr().err
    back = tmp_path / "b.safetensors"
    assert convert_weights.main(["--to-torch", str(tmp_path / "out"), str(back)]) == 0
    assert {entry.name for entry in tmp_path.iterdir()} == {"w.pth", "out", "b.safetensors"}
    assert f'safetensors.numpy.load_file("{back}")' in capsys.readouterr().out


def test_pipes_are_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "w.pth")
    for path in (tmp_path / "w.pth", "/dev/null"):
        assert convert_weights.main([str(path), str(tmp_path / "out")]) == 2
        assert "is a pipe or a device: save what comes out" in capsys.readouterr().err


def test_what_is_to_be_typed_is_quoted(tmp_path, capsys):
    tensors = to_torch_tensors(small_weights(**SMALLEST))
    for saved, option in (
        ({"a b;": tensors, "c": dict(tensors)}, "--from 'a b;'"),
        ({f"{p}.{n}": t for n, t in tensors.items() for p in ("a b", "c")}, "--prefix 'a b.'"),
    ):
        save(saved, tmp_path / "w.pth")
        assert option in refuse(tmp_path / "w.pth", tmp_path / "out", capsys)


def test_names_and_tensors_without_end_are_refused(tmp_path, capsys, monkeypatch):
    name = "patch_embed1.conv.0.weight"
    weights = {f"{'.' * 100_000}{name}": torch.ones(1), "\x1b[2J\nx": torch.ones(1)}
    save(weights, tmp_path / "w.pth", "safetensors")
    said = refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert len(said) < 1000
    assert "\\x1b[2J\\nx" in said
    monkeypatch.setattr("shunted_jax.convert.files._MOST_TENSORS", 1)
    said = refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert "holds 2 tensors, and 1 are the most read" in said


def test_indices_and_sizes_that_lie_do_not_hang(tmp_path, capsys):
    tensors = to_torch_tensors(small_weights())
    far = {n.replace("block1.1.", "block1.999999999999."): t for n, t in tensors.items()}
    save(far, tmp_path / "w.pth")
    assert "missing     block1.1.*" in refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    many = {f"block1.{n}.norm1.bias": torch.ones(3) for n in range(2, 3000)}
    save({**tensors, **many}, tmp_path / "w.pth")
    said = refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert "too many    3,001 blocks" in said
    longest = {**tensors, f"block{'9' * 5000}.0.norm1.bias": torch.ones(3)}
    save(longest, tmp_path / "w.pth", "safetensors")
    said = refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert "unexpected  block9999" in said
    empty = dict(tensors, **{"block1.0.mlp.fc1.weight": torch.zeros(0, 64)})
    save(empty, tmp_path / "w.pth")
    said = refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert "wrong shape block1.0.mlp.fc1.weight: (0, 64)" in said
    huge = dict(tensors, **{"head.weight": torch.zeros(1).expand(10**6, 96)})
    save(huge, tmp_path / "w.pth")
    assert "wrong shape head.bias" in refuse(tmp_path / "w.pth", tmp_path / "out", capsys)
    assert np.prod(huge["head.weight"].shape) > 10**7
