"""Files that hold no state dict as such: each is told what it is, and the command that helps."""

import gzip
import io
import itertools
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from tests.convert.files import SMALLEST, assert_holds, convert, save, small_weights, torch
from tests.convert.files import to_torch_tensors as tensors_of

# What writes files, and the network in PyTorch that a conversion is compared with.
NOT_FOR_READING = {"torch_files.py": {"pickle", "torch"}, "torch_reference.py": {"torch"}}


@pytest.fixture(scope="module")
def weights():
    return small_weights(**SMALLEST)


def a_zip(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return stream.getvalue()


def a_tar(mode="w"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("ckpt.pth"), io.BytesIO())
    return stream.getvalue()


def an_npz():
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(3))
    return stream.getvalue()


METADATA = (
    b"\x80\x04\x95D\x04\x00\x00\x00\x00\x00\x00\x8c%torch.distributed.checkpoint.metadata\x94."
)
STATIC = 'paddle.save(network.state_dict(), "weights.pdparams")'
DCP = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"


@pytest.mark.parametrize(
    ("name", "content", "is_what", "remedy"),
    [
        ("w.npz", an_npz(), "an archive of numpy's", "numpy.load"),
        ("w.pth.gz", gzip.compress(b"x"), "packed with gzip", "gunzip -c {path} > {folder}/w.pth"),
        ("w.pth", gzip.compress(b"x"), "packed with gzip", "gunzip -c {path} > {path}.unpacked"),
        ("w.tar.gz", a_tar("w:gz"), "a tar archive, packed with gzip", "tar -xf {path}"),
        ("w.xz", b"\xfd7zXZ\x00\x00", "packed with xz", "xz -dc {path} > {folder}/w"),
        ("w.bz2", b"BZh91AY", "packed with bzip2", "bunzip2 -c {path} > {folder}/w"),
        ("w.zst", b"\x28\xb5\x2f\xfd$", "packed with zstd", "zstd -dc {path} > {folder}/w"),
        ("w.tar", a_tar(), "a tar archive around other files", "tar -xf {path}"),
        ("w.7z", b"7z\xbc\xaf\x27\x1c\0", "a 7-Zip archive", "7z x {path}"),
        ("w.rar", b"Rar!\x1a\x07\x01", "a RAR archive", "unrar x {path}"),
        ("w.zip", a_zip(ckpt_DOT_pth="x"), "a zip archive around", "\n  unzip {path}\n"),
        ("w.zip", a_zip(), "a zip archive around", "(nothing)"),
        ("w.zip", a_zip(a__data_DOT_pkl="x"), "packed once more", "torch.save it again"),
        ("w.zip", a_zip(data_DOT_pkl="x"), "without its folder", "torch.save it again"),
        ("w.pt2", a_zip(w__models__model_DOT_json="{}"), "torch.export", "torch.export.load"),
        ("w.pt2", a_zip(serialized_exported_program_DOT_json="{}"), "torch.export", "torch.save"),
        ("w.distcp", a_zip(a__data_DOT_pkl="x"), "of torch.distributed.checkpoint", DCP),
        ("w.pth", an_npz() + an_npz(), "of torch.distributed.checkpoint", DCP),
        (".metadata", METADATA, "of torch.distributed.checkpoint", f"{DCP} {{folder}} weights.pth"),
        ("w.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.3.0", "an ONNX file", "onnx.load"),
        ("w.bin", b"\x08\x08\x12\x07pytorch\x1a\x052.3.0", "an ONNX file", "exported from"),
        ("w.pdmodel", b"\n\x1f\x08\x00\x10\xff", "a static graph of Paddle's", STATIC),
        ("w.json", b'{"base_code":{"magic":"pir"}}', "a static graph of Paddle's", STATIC),
        ("w.pdiparams", bytes(16) + b"\x06\0\0\0\x08\x05\x10 ", "parameters of a static", STATIC),
        ("w.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file", "PyTorch's and Paddle's are read"),
    ],
    ids=itertools.count(),
)
def test_what_a_file_is_and_what_helps(name, content, is_what, remedy, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(content)
    convert(path, tmp_path / "out", status=2)
    said = capsys.readouterr().err
    assert said.startswith(f"convert_weights.py: {path} ")
    assert is_what in said
    assert remedy.format(path=path, folder=tmp_path) in said
    assert "damaged" not in said
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_bomb_of_dicts_is_read_at_once(capsys, tmp_path):
    from pathlib import Path

    convert(Path(__file__).parent / "samples" / "bomb_dict.pth", tmp_path / "out", status=2)
    assert "no Shunted Transformer's checkpoint: none of its 1 tensors" in capsys.readouterr().err


def test_nothing_of_pickle_torch_or_paddle_is_imported_to_read(weights, tmp_path):
    import ast
    from pathlib import Path

    import shunted_jax.convert

    for path in Path(shunted_jax.convert.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", ())]
            names += [getattr(node, "module", None) or ""]
            found = {name.partition(".")[0] for name in names} & {"pickle", "torch", "paddle"}
            assert found <= NOT_FOR_READING.get(path.name, set())

    save({"state_dict": tensors_of(weights)}, tmp_path / "zip.pth")
    save(tensors_of(weights), tmp_path / "legacy.pth", "legacy")
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(weights, 4))
    program = """
import sys
class NotInstalled:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "safetensors", "paddle", "_torch"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
import convert_weights
for name in ("zip.pth", "legacy.pth", "w.pdparams"):
    assert convert_weights.main([f"{sys.argv[1]}/{name}", f"{sys.argv[1]}/{name}.out"]) == 0
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
    repository = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    for name in ("zip.pth", "legacy.pth", "w.pdparams"):
        assert_holds(tmp_path / f"{name}.out", weights)


@pytest.mark.proof
def test_the_commands_that_are_told_make_readable_files(weights, tmp_path, capsys):
    import torch.distributed.checkpoint as dcp

    from shunted_jax.convert.torch_reference import TorchShunted

    network = TorchShunted(**{**SMALLEST, "in_channels": 3})
    network.load_state_dict(tensors_of(weights))
    program = torch.export.export(network.eval(), (torch.zeros(1, 3, 32, 32),))
    torch.export.save(program, tmp_path / "program.pt2")
    dcp.save({"model": network.state_dict()}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    np.savez(tmp_path / "w.npz", **weights)
    save(tensors_of(weights), tmp_path / "ckpt.pth")
    (tmp_path / "packed.pth.gz").write_bytes(gzip.compress((tmp_path / "ckpt.pth").read_bytes()))
    made = {
        "program.pt2": "weights.pth",
        "dcp/__0_0.distcp": "weights.pth",
        "w.npz": "weights.safetensors",
        "packed.pth.gz": "packed.pth",
    }
    for name, result in made.items():
        convert(tmp_path / name, tmp_path / "out", status=2)
        said = capsys.readouterr().err
        command = re.search(r"\n  (.*)\n", said)[1].replace("python ", f"{sys.executable} ", 1)
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)
        convert(tmp_path / result, tmp_path / "out")
        assert_holds(tmp_path / "out", weights)
        subprocess.run(["rm", "-r", str(tmp_path / "out"), str(tmp_path / result)], check=True)
