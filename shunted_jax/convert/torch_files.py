"""Checkpoints for PyTorch, written: the only module here with torch, and for `.pth` alone."""

import io
import os
import pickle
from collections.abc import Mapping

import numpy as np

from shunted_jax.convert.paddle_writing import to_paddle
from shunted_jax.errors import UserError
from shunted_jax.resources import writing_into
from shunted_jax.storage import on_disk, replace_bytes


def write_tensors(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict as `.safetensors`, `.pdparams` for Paddle, or else as `torch.save` does.

    It is there as a whole or not at all.

    Raises:
        UserError: torch or safetensors is missing.
        RunError: the disk does not take it.
    """
    path = on_disk(path)
    # Bytes first: what a full disk says, torch and safetensors would say in words of their own.
    content = _BYTES.get(path.suffix, _as_pth)(state_dict)
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, content)


def _as_safetensors(state_dict: Mapping[str, np.ndarray]) -> bytes:
    try:
        from safetensors.numpy import save
    except ImportError:
        raise UserError(".safetensors files need safetensors: pip install safetensors") from None
    return save(dict(state_dict))


def _as_pdparams(state_dict: Mapping[str, np.ndarray]) -> bytes:
    return pickle.dumps(to_paddle(state_dict), protocol=4)


def _as_pth(state_dict: Mapping[str, np.ndarray]) -> memoryview:
    try:
        import torch
    except ImportError:
        raise UserError(
            "a .pth is written by PyTorch: pip install 'torch>=2.10' (the build for the CPU is "
            "enough), or name a .safetensors file, which needs none"
        ) from None
    stream = io.BytesIO()
    torch.save({key: torch.from_numpy(t.copy()) for key, t in state_dict.items()}, stream)
    return stream.getbuffer()


_BYTES = {".safetensors": _as_safetensors, ".pdparams": _as_pdparams}
