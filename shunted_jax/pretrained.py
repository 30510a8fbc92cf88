"""Pretrained parameters in one line, for anyone's Flax code: no torch, no network."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from shunted_jax.checkpoints import read_weights
from shunted_jax.errors import UserError
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.fields import from_json
from shunted_jax.models.registry import check_known_fields
from shunted_jax.models.variables import abstract_variables, differing_shapes, with_other_head


def load_pretrained(
    path: str | os.PathLike,
    *,
    num_classes: int | None = None,
    key: jax.Array | None = None,
    dtype: Any = None,
    step: int | str = "best",
    sharding: jax.sharding.Sharding | None = None,
    **fields: Any,
) -> tuple[ShuntedTransformer, dict[str, Any]]:
    """Loads a module and its variables from a checkpoint.

        model, variables = shunted_jax.load_pretrained("out/")
        logits = model.apply(variables, images)

    Args:
        path: what `convert_weights.py` wrote, or a training run's folder; local or in a bucket.
        num_classes: None keeps the head as it is; another number than the checkpoint's gives a
            freshly initialised head, with a warning; 0 leaves the head out.
        key: decides a new head, which is the one that `model.init(key, images)` draws; None takes
            `jax.random.key(0)`.
        dtype: of the computation; None takes the checkpoint's.
        step: which of a run's checkpoints: its number, "latest", or "best" by top-1.
        sharding: where every leaf goes, on a mesh for example; None leaves numpy arrays on the
            host.
        **fields: fields of `ShuntedTransformer` to set otherwise, such as `drop_path_rate=0.1`.

    Returns:
        The module and {"params", "batch_stats"}; float32 unless `param_dtype` says otherwise.

    Raises:
        UserError: (a ValueError) there is no checkpoint, or a field asks for other shapes than it
            has.
    """
    check_known_fields(fields)
    weights = read_weights(path, step)
    saved = from_json(weights.meta["model"])
    if dtype is not None:
        fields["dtype"] = jnp.dtype(dtype)
    if num_classes is not None:
        fields["num_classes"] = num_classes
    model = ShuntedTransformer(**{**saved, **fields})
    leaves = traverse_util.flatten_dict(
        {"params": weights.params, "batch_stats": weights.batch_stats}
    )
    if model.num_classes != saved["num_classes"]:
        leaves = with_other_head(leaves, model, saved["num_classes"], path, key)
    wanted = abstract_variables(model)
    _check_shapes(leaves, wanted, path)
    leaves = {at: np.asarray(leaf).astype(wanted[at].dtype) for at, leaf in leaves.items()}
    if sharding is not None:
        leaves = jax.device_put(leaves, sharding)
    return model, traverse_util.unflatten_dict(leaves)


def _check_shapes(leaves, wanted, path) -> None:
    problems = [
        f"{name}: {has} in the checkpoint, {wants} in the network"
        for name, has, wants in differing_shapes(leaves, wanted)
    ]
    if problems:
        raise UserError(
            f"the fields asked for do not fit the parameters in {path}:\n  " + "\n  ".join(problems)
        )
