"""A folder to share: safetensors under PyTorch's names, `config.json`, and a card.

It holds all that a checkpoint of converted weights does, and whoever has PyTorch alone reads it,
too.
"""

import json
import os
import shlex
from pathlib import Path

from etils import epath

from shunted_jax.checkpoints import Metadata, Weights, check_free
from shunted_jax.convert.files import reading
from shunted_jax.convert.state_dict import load_state_dict, to_torch
from shunted_jax.convert.torch_files import write_tensors
from shunted_jax.errors import UserError
from shunted_jax.hub import config_file
from shunted_jax.hub.address import hub_address
from shunted_jax.hub.fetching import fetch
from shunted_jax.hub.weight_files import NAMES, read_weight_files, weights_among
from shunted_jax.locks import alone_at
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.architecture import network_of
from shunted_jax.resources import writing_into
from shunted_jax.storage import absolute, as_path, in_bucket, written_aside


def write_shared(
    path: str | os.PathLike,
    model: ShuntedTransformer,
    variables: dict,
    meta: Metadata,
    card: str,
    *,
    overwrite: bool = False,
) -> None:
    """Writes a folder to share, whole or not at all.

    Args:
        path: the folder to make, on a disk.
        model: the network.
        variables: its {"params", "batch_stats"}.
        meta: what its checkpoint says of itself.
        card: the text of its README.md.
        overwrite: replace what is at `path`.

    Raises:
        UserError: `path` exists and is not to be overwritten, or is no place on a disk.
    """
    if in_bucket(path):
        raise UserError(f"{path}: a folder to share is written to a disk, and uploaded from there")
    check_free(path, overwrite)
    path = absolute(path)
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_at(path), written_aside(path) as folder:
            _fill(folder, model, variables, meta, card)


def _fill(
    folder: epath.Path, model: ShuntedTransformer, variables: dict, meta: Metadata, card: str
) -> None:
    counters = meta.conversion.num_batches_tracked if meta.conversion else 0
    tensors = to_torch(model, variables, num_batches_tracked=counters)
    values = config_file.config_values(model, meta)
    folder.mkdir()
    write_tensors(folder / NAMES[0], tensors)
    (folder / config_file.NAME).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    (folder / "README.md").write_text(card, "utf-8")


def is_shared(path: str | os.PathLike) -> bool:
    """Returns whether there are weights at `path` as people share them, not as Orbax saves them."""
    if hub_address(path):
        return True
    return not in_bucket(path) and any((as_path(path) / name).is_file() for name in NAMES)


def read_shared(path: str | os.PathLike) -> Weights:
    """Reads what `write_shared` wrote, here or on a hub.

    Raises:
        UserError: it is not there or is not what it says, or somebody else wrote it.
        RunError: the hub cannot be reached.
    """
    address = hub_address(path)
    folder = fetch(address) if address else Path(as_path(path))
    config = config_file.read_config(folder)
    if config is None or config.own is None:
        raise UserError(
            f"{path} holds PyTorch's weights, and does not say which network they are of: "
            f"python convert_weights.py {shlex.quote(os.fspath(path))} OUT makes a checkpoint of "
            "them"
        )
    meta = config.metadata()
    model = network_of(meta.model, config.path)
    config.check(model)
    with reading(path):
        loaded, _ = read_weight_files(folder / weights_among(os.listdir(folder), path))
        return Weights(**load_state_dict(model, loaded.value), meta=meta)
