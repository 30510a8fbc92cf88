"""Checkpoints for PyTorch, written: the only module here with torch, and for `.pth` alone."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shunted_jax.errors import UserError


def write_tensors(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict as `.safetensors`, or else as `torch.save` does; whole or not at all.

    Raises:
        UserError: torch or safetensors is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        if path.suffix == ".safetensors":
            _write_safetensors(name, state_dict)
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
