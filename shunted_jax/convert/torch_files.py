"""PyTorch's files, read without ever running what is in them: the only module here with torch.

A `.pth` is a pickle, a program that Python runs when it reads it. `weights_only=True` runs a small
part of that language alone: tensors, plain containers, and here `argparse.Namespace`, which
training checkpoints hold. `.safetensors` files hold no program and need no torch.
"""

import argparse
import contextlib
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shunted_jax.adapters.torch import refused_global
from shunted_jax.convert.paddle_writing import to_paddle
from shunted_jax.errors import UserError

# Older ones have known ways around weights_only.
_OLDEST_TORCH = (2, 10)


def read_tensors(path: str | os.PathLike) -> Any:
    """Reads a file that `torch.save` or safetensors wrote.

    Args:
        path: of the file.

    Returns:
        What was saved, numpy arrays in place of tensors: nested mappings, as a rule.

    Raises:
        UserError: the file is not there, is of another kind, is damaged, asks to run code, or torch
            is missing or too old.
    """
    path = Path(path)
    kind = _kind(path)
    with _clear_errors(path):
        if kind == "safetensors":
            return _read_safetensors(path)
        torch = _import_torch()
        if kind == "zip":
            _check_archive(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        return _to_numpy(loaded)


def write_tensors(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict as `.safetensors`, `.pdparams` for Paddle, or else as `torch.save` does.

    It is there as a whole or not at all.

    Raises:
        UserError: torch is missing or too old.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        if path.suffix == ".safetensors":
            _safetensors_numpy().save_file(dict(state_dict), name)
        elif path.suffix == ".pdparams":
            Path(name).write_bytes(pickle.dumps(to_paddle(state_dict), protocol=4))
        else:
            torch = _import_torch()
            torch.save({key: torch.from_numpy(t.copy()) for key, t in state_dict.items()}, name)
        Path(name).chmod(0o644)  # mkstemp's own is for its owner's eyes alone
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _kind(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the .pth or .safetensors file itself")
    if not path.exists():
        raise UserError(f"{path} does not exist")
    with path.open("rb") as file:
        start = file.read(512)
    text = start.lstrip().lower()
    if not start:
        raise UserError(f"{path} is empty: download it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UserError(
            f"{path} is a web page, not a checkpoint: a download site's error or confirmation page "
            "was saved in its place; download it again in a browser"
        )
    if text.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is a git-lfs pointer, not the file: run git lfs pull where it comes from"
        )
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "safetensors"
    if start.startswith(b"PK"):
        return "zip"
    if start.startswith(b"\x80"):
        return "legacy"
    raise UserError(
        f"{path} is neither a PyTorch nor a safetensors file: it starts with {start[:16]!r}"
    )


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Turns what readers raise on strange files, which is nearly anything, into one clear error."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        if (asked_for := refused_global(error)) is not None:
            raise UserError(
                f"{path} asks to load {asked_for}, which weights do not need and which could "
                "run a stranger's code: refused, and nothing was run. Have network.state_dict() "
                "saved alone"
            ) from error
        raise UserError(
            f"{path} is damaged or not a checkpoint; download it again ({first_line})"
        ) from error


def _check_archive(path: Path) -> None:
    # torch does not compare the checksums that it wrote; a flipped bit would become a weight.
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise UserError(
                f"{path} is damaged: the checksum of {damaged} is wrong; download it again"
            )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    _safetensors_numpy()
    import safetensors

    with safetensors.safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _to_numpy(loaded: Any) -> Any:
    if isinstance(loaded, Mapping):
        return {key: _to_numpy(value) for key, value in loaded.items()}
    if not hasattr(loaded, "is_floating_point"):
        return loaded
    tensor = loaded.detach()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()  # numpy has no bfloat16; float32 holds each of its values
    return tensor.numpy()


def _import_torch() -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            "PyTorch's files need PyTorch, for the conversion alone: pip install 'torch>=2.10' "
            "(the build for the CPU is enough)"
        ) from None
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _OLDEST_TORCH:
        raise UserError(
            f"torch {torch.__version__} is too old to read strangers' files safely: "
            "pip install 'torch>=2.10'"
        )
    return torch


def _safetensors_numpy() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise UserError(".safetensors files need safetensors: pip install safetensors") from None
    return safetensors.numpy
