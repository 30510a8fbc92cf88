"""The work of `convert_weights.py`: a PyTorch file to a checkpoint, and a checkpoint to one."""

import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from shunted_jax.checkpoints import (
    FORMAT_VERSION,
    Weights,
    check_free,
    read_weights,
    write_weights,
)
from shunted_jax.convert.state_dict import Conversion, convert_state_dict, to_torch
from shunted_jax.convert.torch_files import read_tensors, write_tensors
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.fields import from_json, to_json

_MOST_NAMED = 8


def convert_file(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    model: str | None = None,
    prefix: str | None = None,
    drop_head: bool = False,
    ignore_unexpected: bool = False,
    overwrite: bool = False,
) -> str:
    """Converts a PyTorch or safetensors file to an Orbax checkpoint.

    Args:
        source: the file.
        out: the folder to make; local or in a bucket.
        model: the variant that it must be; None finds out.
        prefix: of the network's tensors, where the file holds several networks.
        drop_head: leave the classifier out.
        ignore_unexpected: leave out tensors that are not the network's instead of refusing them.
        overwrite: replace what is at `out`.

    Returns:
        An account of what was done, for the screen.

    Raises:
        UserError: the file cannot be read or does not fit, or `out` exists; nothing was written.
    """
    check_free(out, overwrite)
    conversion = convert_state_dict(
        read_tensors(source),
        model=model,
        prefix=prefix,
        drop_head=drop_head,
        ignore_unexpected=ignore_unexpected,
    )
    cleaned = conversion.cleaned
    meta = {
        "format_version": FORMAT_VERSION,
        "model": to_json(conversion.model),
        "variant": conversion.variant,
        "source": {"name": Path(source).name, "sha256": _sha256(source)},
        "unwrapped": list(cleaned.unwrapped),
        "prefix": cleaned.prefix,
        "renamed": cleaned.renamed,
        "ignored": list(cleaned.ignored),
        "head_left_out": conversion.head_left_out,
        "num_batches_tracked": cleaned.counters,
    }
    write_weights(out, Weights(**conversion.variables, meta=meta), overwrite=overwrite)
    return _account(conversion, source, out)


def export_file(
    checkpoint: str | os.PathLike, out: str | os.PathLike, *, overwrite: bool = False
) -> str:
    """Writes a checkpoint, converted or trained here, as PyTorch or safetensors file.

    Args:
        checkpoint: the folder, as `load_pretrained` takes it.
        out: the file to make; safetensors if so named, else as `torch.save` writes it.
        overwrite: replace what is at `out`.

    Returns:
        An account of what was done, for the screen.

    Raises:
        UserError: the checkpoint cannot be read, or `out` exists; nothing was written.
    """
    check_free(out, overwrite)
    weights = read_weights(checkpoint)
    model = ShuntedTransformer(**from_json(weights.meta["model"]))
    state_dict = to_torch(
        model,
        {"params": weights.params, "batch_stats": weights.batch_stats},
        num_batches_tracked=weights.meta.get("num_batches_tracked", 0),
    )
    write_tensors(out, state_dict)
    rows = {"tensors": f"{len(state_dict):,}", "classes": _classes(model)}
    how = "safetensors.torch.load_file" if Path(out).suffix == ".safetensors" else "torch.load"
    return _table(f"{checkpoint} -> {out}", rows) + f'\nstate_dict = {how}("{out}")'


def _account(conversion: Conversion, source: Any, out: Any) -> str:
    model, cleaned = conversion.model, conversion.cleaned
    leaves = traverse_util.flatten_dict(conversion.variables, sep="/")
    parameters = sum(leaf.size for leaf in jax.tree.leaves(conversion.variables["params"]))
    left_out = (["head"] if conversion.head_left_out else []) + list(cleaned.ignored)
    rows = {
        "variant": conversion.variant,
        "tensors": f"{len(leaves):,}",
        "parameters": f"{parameters:,}",
        "classes": _classes(model),
        "unwrapped": " > ".join(cleaned.unwrapped),
        "stripped": cleaned.prefix,
        "renamed": f"{cleaned.renamed:,} tensors" if cleaned.renamed else "",
        "left out": _some(left_out),
    }
    if conversion.variant == "custom":
        shape = {name: getattr(model, name) for name in ("depths", "embed_dims", "num_heads")}
        rows["variant"] = "custom: " + ", ".join(f"{name} {value}" for name, value in shape.items())
    text = _table(f"{source} -> {out}", rows)
    not_finite = [name for name, leaf in leaves.items() if not np.isfinite(leaf).all()]
    if not_finite:
        text += f"\nwarning: not finite in {len(not_finite)} tensors: {_some(not_finite)}"
    return text + f'\nmodel, variables = shunted_jax.load_pretrained("{out}")'


def _classes(model: ShuntedTransformer) -> str:
    return f"{model.num_classes:,}" if model.num_classes else "none: a backbone without a head"


def _table(title: str, rows: dict[str, str]) -> str:
    return "\n".join([title, *(f"  {name:<12}{text}" for name, text in rows.items() if text)])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _sha256(path: str | os.PathLike) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
