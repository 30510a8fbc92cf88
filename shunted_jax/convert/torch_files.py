"""Checkpoints for PyTorch, written: the only module here with torch, and for `.pth` alone."""

import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shunted_jax.convert.paddle_writing import to_paddle
from shunted_jax.errors import UserError
from shunted_jax.resources import writing_into
from shunted_jax.storage import on_disk


def write_tensors(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict as `.safetensors`, `.pdparams` for Paddle, or else as `torch.save` does.

    It is there as a whole or not at all.

    Raises:
        UserError: torch or safetensors is missing.
        RunError: the disk does not take it.
    """
    path = on_disk(path)
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, state_dict)


def _write(path: os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        if path.suffix == ".safetensors":
            _write_safetensors(name, state_dict)
        elif path.suffix == ".pdparams":
            Path(name).write_bytes(pickle.dumps(to_paddle(state_dict), protocol=4))
        else:
            _write_pth(name, state_dict)
        Path(name).chmod(0o644)  # mkstemp's own is for its owner's eyes alone
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _write_safetensors(name: str, state_dict: Mapping[str, np.ndarray]) -> None:
    try:
        from safetensors.numpy import save_file
    except ImportError:
        raise UserError(".safetensors files need safetensors: pip install safetensors") from None
    save_file(dict(state_dict), name)


def _write_pth(name: str, state_dict: Mapping[str, np.ndarray]) -> None:
    try:
        import torch
    except ImportError:
        raise UserError(
            "a .pth is written by PyTorch: pip install 'torch>=2.10' (the build for the CPU is "
            "enough), or name a .safetensors file, which needs none"
        ) from None
    torch.save({key: torch.from_numpy(t.copy()) for key, t in state_dict.items()}, name)
