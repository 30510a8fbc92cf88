"""The way in: weights as other people saved them to a checkpoint."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from shunted_jax.checkpoints import Metadata, Origin, Weights, check_free, write_weights
from shunted_jax.commands.account import classes, table
from shunted_jax.commands.check_conversion import check
from shunted_jax.convert.state_dict import Conversion, convert_state_dict
from shunted_jax.errors import some
from shunted_jax.hub.sources import read_source
from shunted_jax.models.architecture import architecture_of


def convert_file(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    model: str | None = None,
    prefix: str | None = None,
    drop_head: bool = False,
    ignore_unexpected: bool = False,
    check_on: Sequence[str] | None = None,
    overwrite: bool = False,
) -> str:
    """Converts PyTorch's or safetensors' weights to an Orbax checkpoint.

    Args:
        source: a file, a folder, or a hub's repository, as hf://ORG/REPO.
        out: the folder to make; local or in a bucket.
        model: the variant that it must be; None finds out.
        prefix: of the network's tensors, where the file holds several networks.
        drop_head: leave the classifier out.
        ignore_unexpected: leave out tensors that are not the network's instead of refusing them.
        check_on: photographs to compare the conversion with PyTorch on, see `check`; None compares
            nothing.
        overwrite: replace what is at `out`.

    Returns:
        An account of what was done, for the screen.

    Raises:
        UserError: the weights cannot be read or do not fit, or `out` exists; nothing was written.
        RunError: a hub cannot be reached, or the comparison failed; nothing was written.
    """
    check_free(out, overwrite)
    found = read_source(source, out)
    conversion = convert_state_dict(
        found.tensors,
        model=model,
        num_heads=found.config and found.config.num_heads,
        prefix=prefix,
        drop_head=drop_head,
        ignore_unexpected=ignore_unexpected,
    )
    class_names = None
    if found.config is not None:
        found.config.check(conversion.model, but=("num_classes",) if drop_head else ())
        class_names = None if drop_head else found.config.class_names
    checked = "" if check_on is None else check(conversion, check_on)
    cleaned = conversion.cleaned
    origin = Origin(
        variant=conversion.variant,
        source=found.origin(),
        unwrapped=list(cleaned.unwrapped),
        prefix=cleaned.prefix,
        renamed=cleaned.renamed,
        ignored=list(cleaned.ignored),
        head_left_out=conversion.head_left_out,
        num_batches_tracked=cleaned.counters,
    )
    meta = Metadata(architecture_of(conversion.model), class_names, conversion=origin)
    write_weights(out, Weights(**conversion.variables, meta=meta), overwrite=overwrite)
    files = [path.name for path in found.files if path != Path(source)]
    about = {"read": some(files), **_rows(conversion), "checked": checked}
    text = table(f"{source} -> {out}", about) + _warning(conversion)
    return text + f'\nmodel, variables = shunted_jax.load_pretrained("{out}")'


def _rows(conversion: Conversion) -> dict[str, str]:
    model, cleaned = conversion.model, conversion.cleaned
    variables = conversion.variables
    left_out = (["head"] if conversion.head_left_out else []) + list(cleaned.ignored)
    rows = {
        "variant": conversion.variant,
        "tensors": f"{len(jax.tree.leaves(variables)):,}",
        "parameters": f"{sum(leaf.size for leaf in jax.tree.leaves(variables['params'])):,}",
        "classes": classes(model),
        "unwrapped": " > ".join(cleaned.unwrapped),
        "stripped": cleaned.prefix,
        "renamed": f"{cleaned.renamed:,} tensors" if cleaned.renamed else "",
        "left out": some(left_out),
    }
    if conversion.variant == "custom":
        shape = {name: getattr(model, name) for name in ("depths", "embed_dims", "num_heads")}
        rows["variant"] = "custom: " + ", ".join(f"{name} {value}" for name, value in shape.items())
    return rows


def _warning(conversion: Conversion) -> str:
    leaves = traverse_util.flatten_dict(conversion.variables, sep="/")
    not_finite = [name for name, leaf in leaves.items() if not np.isfinite(leaf).all()]
    if not not_finite:
        return ""
    return f"\nwarning: not finite in {len(not_finite)} tensors: {some(not_finite)}"
