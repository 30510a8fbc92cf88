"""The way in: weights as other people saved them to a checkpoint."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from shunted_jax.checkpoints import Metadata, Origin, Weights, check_free, write_weights
from shunted_jax.commands.account import classes, quoted, table
from shunted_jax.commands.check_conversion import check
from shunted_jax.convert.cleaning import BESIDE_BACKBONE
from shunted_jax.convert.files import reading
from shunted_jax.convert.state_dict import Conversion, convert_state_dict
from shunted_jax.errors import some
from shunted_jax.hub.address import as_source
from shunted_jax.hub.sources import read_source
from shunted_jax.models.architecture import architecture_of
from shunted_jax.storage import absolute, as_path


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
    check_on: Sequence[str] | None = None,
    overwrite: bool = False,
) -> str:
    """Converts weights of PyTorch's, Paddle's or safetensors to an Orbax checkpoint.

    Args:
        source: a file, a folder, or a hub's repository, as hf://ORG/REPO.
        out: the folder to make; local or in a bucket.
        model: the variant that it must be; None finds out.
        num_heads: attention heads of each stage; None takes those of a `config.json` beside the
            weights, else the variant's, or channels / 32.
        from_key: what the state dict stands under, where the file holds several.
        prefix: of the network's tensors, where the file holds several networks.
        drop_head: leave the classifier out.
        ignore_unexpected: leave out tensors that are not the network's instead of refusing them.
        check_on: photographs to compare the conversion with PyTorch on, see `check`; None compares
            nothing.
        overwrite: replace what is at `out`.

    Returns:
        An account of what was done, for the screen.

    Raises:
        UserError: the weights cannot be read or do not fit, or `out` exists or is no place for a
            checkpoint; nothing was written.
        LockError: another process writes `out`.
        RunError: a hub cannot be reached, the comparison failed, what was written cannot be read
            back, or the disk or bucket does not take it.
    """
    source, out = as_source(source), as_path(out)
    absolute(out)  # whether a checkpoint can be called so
    check_free(out, overwrite)
    with reading(source):
        found = read_source(source, out)
        of_config = found.config.num_heads if found.config else None
        conversion = convert_state_dict(
            found.loaded.value,
            model=model,
            num_heads=of_config if num_heads is None else tuple(num_heads),
            from_key=from_key,
            prefix=prefix,
            drop_head=drop_head,
            ignore_unexpected=ignore_unexpected,
        )
        class_names = None
        if found.config is not None:
            # A network of more parts has its classes in another head.
            headless = drop_head or conversion.cleaned.beside
            found.config.check(conversion.model, but=("num_classes",) if headless else ())
            class_names = None if headless else found.config.class_names
        checked = "" if check_on is None else check(conversion, check_on)
    cleaned = conversion.cleaned
    origin = Origin(
        variant=conversion.variant,
        source=found.origin(),
        unwrapped=list(cleaned.unwrapped),
        prefix=cleaned.prefix,
        renamed=cleaned.renamed,
        ignored=[*cleaned.ignored, *cleaned.beside],
        head_left_out=conversion.head_left_out,
        num_batches_tracked=cleaned.counters,
    )
    meta = Metadata(architecture_of(conversion.model), class_names, conversion=origin)
    write_weights(out, Weights(**conversion.variables, meta=meta), overwrite=overwrite)
    files = [path.name for path in found.files if path != Path(source)]
    of_paddle = " of Paddle's" if cleaned.paddle else ""
    about = {"file": found.loaded.kind + of_paddle, "read": some(files), **_rows(conversion)}
    text = table(f"{source} -> {out}", about | {"checked": checked}) + _notes(conversion)
    return text + f"\nmodel, variables = shunted_jax.load_pretrained({quoted(out)})"


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
        "turned": "linear weights, which lay as Paddle keeps them" if cleaned.transposed else "",
        "left out": some(left_out),
        "left unread": some(conversion.found.unread),
    }
    if conversion.variant == "custom":
        shape = {name: getattr(model, name) for name in ("depths", "embed_dims", "num_heads")}
        rows["variant"] = "custom: " + ", ".join(f"{name} {value}" for name, value in shape.items())
    return rows


def _notes(conversion: Conversion) -> str:
    found, cleaned, text = conversion.found, conversion.cleaned, ""
    if found.others:
        others = some([f"{place} ({count:,} tensors)" for place, count in found.others])
        text += (
            f"\n{found.place} was taken ({found.count:,} tensors); the file holds {others}, too: "
            f"--from {shlex.quote(found.others[0][0])} takes that"
            + (" one" if len(found.others) > 1 else "")
        )
    if cleaned.beside:
        parts = ", ".join(sorted({_part(name) for name in cleaned.beside}))
        text += (
            f"\nthis network has more parts than its backbone, which was taken: {parts} "
            f"({len(cleaned.beside):,} tensors) stayed behind"
        )
    leaves = traverse_util.flatten_dict(conversion.variables, sep="/")
    not_finite = [name for name, leaf in leaves.items() if not np.isfinite(leaf).all()]
    if not_finite:
        text += f"\nwarning: not finite in {len(not_finite)} tensors: {some(not_finite)}"
    return text


def _part(name: str) -> str:
    parts = name.split(".")
    return next((part for part in parts if part in BESIDE_BACKBONE), parts[0])
