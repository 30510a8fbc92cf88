"""The way out: a checkpoint, converted or trained here, as a file or a folder for other people."""

import os
import shlex
from pathlib import Path

import jax

from shunted_jax.checkpoints import Weights, check_free
from shunted_jax.commands.account import classes, quoted, table
from shunted_jax.convert.state_dict import to_torch
from shunted_jax.convert.torch_files import write_tensors
from shunted_jax.hub.address import as_source
from shunted_jax.hub.card import card
from shunted_jax.hub.shared_folder import write_shared
from shunted_jax.locks import alone_at
from shunted_jax.pretrained import read_network, variables_of
from shunted_jax.resources import writing_into
from shunted_jax.storage import as_path, on_disk

# By which each kind of file is read; all others are PyTorch's.
_LOADERS = {".safetensors": "safetensors.numpy.load_file", ".pdparams": "paddle.load"}


def export_file(
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    *,
    ema: bool = False,
    overwrite: bool = False,
) -> str:
    """Writes a checkpoint, converted or trained here, as PyTorch or safetensors file.

    Args:
        checkpoint: the folder, as `load_pretrained` takes it.
        out: the file to make; `.safetensors`, `.pdparams` for Paddle, or as `torch.save` writes it.
        ema: take the moving average of a run's parameters.
        overwrite: replace what is at `out`.

    Returns:
        An account of what was done, for the screen.

    Raises:
        UserError: the checkpoint cannot be read or has no average, or `out` exists; nothing was
            written.
        RunError: the checkpoint cannot be read, for a reason that may pass, the disk does not take
            the file, or another process writes `out`.
    """
    checkpoint, out = as_source(checkpoint), on_disk(out)
    check_free(out, overwrite, file=True)
    model, weights = read_network(checkpoint)
    variables = variables_of(weights, checkpoint, ema=ema)
    origin = weights.meta.conversion
    counters = 0 if origin is None else origin.num_batches_tracked
    state_dict = to_torch(model, variables, num_batches_tracked=counters)
    with writing_into(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        with alone_at(out):
            check_free(out, overwrite, file=True)  # again: another may have been done a moment ago
            write_tensors(out, state_dict)
    rows = {
        "step": _step(weights),
        "parameters": "their moving average" if ema else "",
        "tensors": f"{len(state_dict):,}",
        "classes": classes(model),
    }
    how = _LOADERS.get(Path(out).suffix, "torch.load")
    return table(f"{checkpoint} -> {out}", rows) + f"\nstate_dict = {how}({quoted(out)})"


def export_folder(
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    *,
    ema: bool = False,
    overwrite: bool = False,
) -> str:
    """Writes a checkpoint as a folder to share: safetensors, `config.json` and a card.

    Args:
        checkpoint: the folder, as `load_pretrained` takes it.
        out: the folder to make, on a disk.
        ema: take the moving average of a run's parameters.
        overwrite: replace what is at `out`.

    Returns:
        An account of what was done, for the screen.

    Raises:
        UserError: as `export_file`.
        RunError: likewise.
    """
    checkpoint, out = as_source(checkpoint), as_path(out)
    check_free(out, overwrite)
    model, weights = read_network(checkpoint)
    variables = variables_of(weights, checkpoint, ema=ema)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    text = card(model, parameters, weights.meta, weights.step, ema)
    write_shared(out, model, variables, weights.meta, text, overwrite=overwrite)
    rows = {
        "step": _step(weights),
        "parameters": f"{parameters:,}" + (", their moving average" if ema else ""),
        "classes": classes(model),
        "to fill in": "README.md, the license and the data",
        "to share": f"hf upload ORG/REPO {shlex.quote(os.fspath(out))}",
    }
    text = table(f"{checkpoint} -> {out}", rows)
    return text + f"\nmodel, variables = shunted_jax.load_pretrained({quoted(out)})"


def _step(weights: Weights) -> str:
    if weights.step is None:
        return ""
    return f"{weights.step:,}" + (f", the best by {weights.best_by}" if weights.best_by else "")
