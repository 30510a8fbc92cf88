"""The work of `convert_weights.py`: a PyTorch file to a checkpoint, and a checkpoint to one."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from shunted_jax.checkpoints import Metadata, Origin, Weights, check_free, write_weights
from shunted_jax.convert.cleaning import BESIDE_BACKBONE
from shunted_jax.convert.files import read_file, reading
from shunted_jax.convert.state_dict import Conversion, convert_state_dict, to_torch
from shunted_jax.convert.torch_files import write_tensors
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.architecture import architecture_of
from shunted_jax.pretrained import read_network, variables_of

_MOST_NAMED = 8


def convert_file(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    model: str | None = None,
    num_heads: Sequence[int] | None = None,
    from_key: str | None = None,
    prefix: str | None = None,
    drop_head: bool = False,
    ignore_unexpected: bool = False,
    overwrite: bool = False,
) -> str:
    """Converts a file of PyTorch's, Paddle's or safetensors to an Orbax checkpoint.

    Args:
        source: the file.
        out: the folder to make; local or in a bucket.
        model: the variant that it must be; None finds out.
        num_heads: attention heads of each stage; None takes the variant's, or channels / 32.
        from_key: what the state dict stands under, where the file holds several.
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
    with reading(source):
        loaded = read_file(source)
        conversion = convert_state_dict(
            loaded.value,
            model=model,
            num_heads=None if num_heads is None else tuple(num_heads),
            from_key=from_key,
            prefix=prefix,
            drop_head=drop_head,
            ignore_unexpected=ignore_unexpected,
        )
    cleaned = conversion.cleaned
    origin = Origin(
        variant=conversion.variant,
        source={"name": Path(source).name, "sha256": _sha256(source)},
        unwrapped=list(cleaned.unwrapped),
        prefix=cleaned.prefix,
        renamed=cleaned.renamed,
        ignored=[*cleaned.ignored, *cleaned.beside],
        head_left_out=conversion.head_left_out,
        num_batches_tracked=cleaned.counters,
    )
    meta = Metadata(model=architecture_of(conversion.model), conversion=origin)
    write_weights(out, Weights(**conversion.variables, meta=meta), overwrite=overwrite)
    return _account(conversion, loaded.kind, source, out)


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
        out: the file to make; safetensors if so named, else as `torch.save` writes it.
        ema: take the moving average of a run's parameters.
        overwrite: replace what is at `out`.

    Returns:
        An account of what was done, for the screen.

    Raises:
        UserError: the checkpoint cannot be read or has no average, or `out` exists; nothing was
            written.
        RunError: the checkpoint cannot be read, for a reason that may pass.
    """
    check_free(out, overwrite)
    model, weights = read_network(checkpoint)
    variables = variables_of(weights, checkpoint, ema=ema)
    origin = weights.meta.conversion
    counters = 0 if origin is None else origin.num_batches_tracked
    state_dict = to_torch(model, variables, num_batches_tracked=counters)
    write_tensors(out, state_dict)
    rows = {
        "step": _step(weights),
        "parameters": "their moving average" if ema else "",
        "tensors": f"{len(state_dict):,}",
        "classes": _classes(model),
    }
    how = "safetensors.numpy.load_file" if Path(out).suffix == ".safetensors" else "torch.load"
    return _table(f"{checkpoint} -> {out}", rows) + f'\nstate_dict = {how}("{out}")'


def _step(weights: Weights) -> str:
    if weights.step is None:
        return ""
    return f"{weights.step:,}" + (f", the best by {weights.best_by}" if weights.best_by else "")


def _account(conversion: Conversion, kind: str, source: Any, out: Any) -> str:
    model, found, cleaned = conversion.model, conversion.found, conversion.cleaned
    leaves = traverse_util.flatten_dict(conversion.variables, sep="/")
    parameters = sum(leaf.size for leaf in jax.tree.leaves(conversion.variables["params"]))
    left_out = (["head"] if conversion.head_left_out else []) + list(cleaned.ignored)
    rows = {
        "file": kind,
        "variant": conversion.variant,
        "tensors": f"{len(leaves):,}",
        "parameters": f"{parameters:,}",
        "classes": _classes(model),
        "unwrapped": " > ".join(cleaned.unwrapped),
        "stripped": cleaned.prefix,
        "renamed": f"{cleaned.renamed:,} tensors" if cleaned.renamed else "",
        "turned": "linear weights, which lay as Paddle keeps them" if cleaned.transposed else "",
        "left out": _some(left_out),
        "left unread": _some(list(found.unread)),
    }
    if conversion.variant == "custom":
        shape = {name: getattr(model, name) for name in ("depths", "embed_dims", "num_heads")}
        rows["variant"] = "custom: " + ", ".join(f"{name} {value}" for name, value in shape.items())
    text = _table(f"{source} -> {out}", rows)
    if found.others:
        others = ", ".join(f"{place} ({count:,} tensors)" for place, count in found.others)
        text += (
            f"\n{found.place} was taken ({found.count:,} tensors); the file holds {others}, too: "
            f"--from {found.others[0][0]} takes that"
        )
    if cleaned.beside:
        parts = ", ".join(sorted({_part(name) for name in cleaned.beside}))
        text += (
            f"\nthis network has more parts than its backbone, which was taken: {parts} "
            f"({len(cleaned.beside):,} tensors) stayed behind"
        )
    not_finite = [name for name, leaf in leaves.items() if not np.isfinite(leaf).all()]
    if not_finite:
        text += f"\nwarning: not finite in {len(not_finite)} tensors: {_some(not_finite)}"
    return text + f'\nmodel, variables = shunted_jax.load_pretrained("{out}")'


def _part(name: str) -> str:
    parts = name.split(".")
    return next((part for part in parts if part in BESIDE_BACKBONE), parts[0])


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
