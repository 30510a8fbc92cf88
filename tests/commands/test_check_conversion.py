"""`--check`: a conversion that computes something else than PyTorch does is not written."""

import cv2
import numpy as np
import pytest

import convert_weights
from shunted_jax.commands import check_conversion
from shunted_jax.convert.key_map import Entry
from tests.convert.files import save, small_weights, to_torch_tensors


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Returns a file of a small network's weights; photographs are small, too."""
    pytest.importorskip("sklearn")
    monkeypatch.setattr(check_conversion, "_SIZE", 32)
    return save(to_torch_tensors(small_weights()), tmp_path / "w.safetensors", "safetensors")


def test_what_is_written_was_compared(weights, tmp_path, capsys, monkeypatch):
    assert convert_weights.main([str(weights), str(tmp_path / "out"), "--check"]) == 0
    said = capsys.readouterr().out
    assert "  checked     at most " in said
    assert "from PyTorch's logits, " in said
    assert "of their spread, on 2 photographs\n" in said

    # A transposition that leaves the shape as it is: nothing but the outputs shows it.
    def forgetful(entry, tensor, right=Entry.to_flax):
        square = tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]
        return tensor if square else right(entry, tensor)

    monkeypatch.setattr(Entry, "to_flax", forgetful)
    assert convert_weights.main([str(weights), str(tmp_path / "other"), "--check"]) == 1
    said = capsys.readouterr().err
    assert "more than 1e-04 of it: nothing was written, and the fault is this program's" in said
    assert not (tmp_path / "other").exists()


def test_photographs_of_ones_own_and_features_of_a_backbone(weights, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "mine.png"), pixels)
    photograph = ("--check-on", str(tmp_path / "mine.png"))
    asked = [str(weights), str(tmp_path / "out"), "--drop-head", *photograph]
    assert convert_weights.main(asked) == 0
    said = capsys.readouterr().out
    assert "from PyTorch's pooled features, " in said
    assert "of their spread, on 1 photograph\n" in said

    broken = to_torch_tensors(small_weights())
    broken["norm2.weight"][0] = float("nan")
    save(broken, tmp_path / "nan.safetensors", "safetensors")
    asked = [str(tmp_path / "nan.safetensors"), str(tmp_path / "x"), *photograph]
    assert convert_weights.main(asked) == 1
    assert "PyTorch's own logits are not finite: nothing was written" in capsys.readouterr().err
    for name, message in (("none.jpg", "No such file"), ("w.safetensors", "not an image file")):
        asked = [str(weights), str(tmp_path / "x"), "--check-on", str(tmp_path / name)]
        assert convert_weights.main(asked) == 2
        said = capsys.readouterr().err
        assert f"the photograph {tmp_path / name} cannot be read: " in said
        assert message in said
    assert not (tmp_path / "x").exists()


def test_what_is_missing_is_said(weights, tmp_path, capsys, monkeypatch):
    import sys

    asked = [str(weights), str(tmp_path / "out"), "--check"]
    for module, message in (
        ("simplejpeg", "simplejpeg is missing: pip install 'shunted-jax[train]'"),
        ("torch", "--check runs the weights in PyTorch, too: pip install 'torch>=2.10'"),
    ):
        for name in ("data.decoding", "data.crops", "convert.torch_reference"):
            monkeypatch.delitem(sys.modules, f"shunted_jax.{name}", raising=False)
        monkeypatch.setitem(sys.modules, module, None)
        assert convert_weights.main(asked) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
