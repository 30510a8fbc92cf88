"""Parameters that were trained before, in one line for anyone's Flax code: no torch.

Fine-tuning, scoring and the export to PyTorch read them here, too.
"""

import logging
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from shunted_jax.checkpoints import Weights, read_weights
from shunted_jax.errors import UserError
from shunted_jax.hub.address import hub_address
from shunted_jax.hub.shared_folder import is_shared, read_shared
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.architecture import differences_between, network_of, variant_of
from shunted_jax.models.channels import with_stem_for
from shunted_jax.models.registry import check_known_fields
from shunted_jax.models.variables import abstract_variables, differing_shapes, with_other_head
from shunted_jax.storage import absolute

logger = logging.getLogger(__name__)

# What a network may have otherwise than the checkpoint that it starts from.
_ENDS = ("num_classes", "in_channels")


def load_pretrained(
    path: str | os.PathLike,
    *,
    num_classes: int | None = None,
    key: jax.Array | None = None,
    dtype: Any = jnp.float32,
    step: int | str = "best",
    ema: bool = False,
    sharding: jax.sharding.Sharding | None = None,
    **fields: Any,
) -> tuple[ShuntedTransformer, dict[str, Any]]:
    """Loads a module and its variables from a checkpoint.

        model, variables = shunted_jax.load_pretrained("out/")
        logits = model.apply(variables, images)

    Args:
        path: what `convert_weights.py` wrote, or a training run's folder, local or in a bucket; or
            hf://ORG/REPO, or hf://ORG/REPO@REVISION, where there is what its `--to-hub-folder`
            wrote.
        num_classes: None keeps the head as it is; another number than the checkpoint's gives a
            freshly initialised head, with a warning; 0 leaves the head out.
        key: decides a new head, which is the one that `model.init(key, images)` draws; None takes
            `jax.random.key(0)`.
        dtype: of the computation, whatever it was in training.
        step: which of a run's checkpoints: its number, "latest", or "best". The best one has the
            highest top-1 of the evaluations: of the averaged parameters where the run keeps an
            average (`eval_ema/top1`), else of the parameters (`eval/top1`).
        ema: take the moving average of the parameters, which a run keeps with `config.ema_decay`.
        sharding: where every leaf goes, on a mesh for example; None leaves numpy arrays on the
            host.
        **fields: fields of `ShuntedTransformer` to set otherwise than their defaults, such as
            `drop_path_rate=0.1`. Those of the architecture are the checkpoint's unless set here.
            With another number of `in_channels` than the checkpoint's, `models.channels.kernel_for`
            makes the stem's kernel of the one that there is.

    Returns:
        The module and {"params", "batch_stats"}; float32 unless `param_dtype` says otherwise.

    Raises:
        UserError: (a ValueError) there is no checkpoint or no average in it, or a field asks for
            other shapes than it has.
        RunError: the checkpoint cannot be read, for a reason that may pass.
    """
    check_known_fields(fields)
    weights = _read(path, step)
    saved = network_of(weights.meta.model, path)
    if num_classes is not None:
        fields["num_classes"] = num_classes
    # To numpy, None is float64.
    model = saved.clone(dtype=jnp.dtype(jnp.float32 if dtype is None else dtype), **fields)
    if model.in_channels != saved.in_channels:
        weights = _with_channels(weights, saved, model, path)
    leaves = traverse_util.flatten_dict(variables_of(weights, path, ema=ema))
    if model.num_classes != saved.num_classes:
        leaves = with_other_head(leaves, model, saved.num_classes, path, key)
    wanted = abstract_variables(model)
    if problems := _problems(leaves, wanted):
        raise UserError(f"the fields asked for do not fit the parameters in {path}:{problems}")
    leaves = {at: np.asarray(leaf).astype(wanted[at].dtype) for at, leaf in leaves.items()}
    if sharding is not None:
        leaves = jax.device_put(leaves, sharding)
    return model, traverse_util.unflatten_dict(leaves)


def read_network(
    path: str | os.PathLike, step: int | str = "best"
) -> tuple[ShuntedTransformer, Weights]:
    """Returns the network that a checkpoint holds, in float32, and its parameters, which fit it.

    Args:
        path: as in `load_pretrained`.
        step: likewise.

    Raises:
        UserError: there is no checkpoint, or it does not hold what it says.
        RunError: it cannot be read, for a reason that may pass.
    """
    weights = _read(path, step)
    model = network_of(weights.meta.model, path)
    leaves = traverse_util.flatten_dict(variables_of(weights, path))
    if problems := _problems(leaves, abstract_variables(model)):
        raise UserError(
            f"{path} does not hold the network that it says it does; convert it again:{problems}"
        )
    return model, weights


def read_weights_for(
    model: ShuntedTransformer, path: str | os.PathLike, step: int | str = "best"
) -> tuple[Weights, int]:
    """Returns a checkpoint whose backbone is `model`'s, and how many classes its own head has.

    Args:
        model: the network that is to have the parameters. Where its images have other channels than
            the checkpoint's, the stem's kernel is made of the one that there is.
        path: as in `load_pretrained`.
        step: likewise.

    Raises:
        UserError: there is no checkpoint, or it is of another network.
        RunError: it cannot be read, for a reason that may pass.
    """
    there, weights = read_network(path, step)
    if differing := differences_between(there, model, but=_ENDS):
        variant = variant_of(there)
        hint = f" (take --config.model.name={variant})" if variant else ""
        lines = [f"{name}: {has} there, {wants} here" for name, has, wants in differing]
        raise UserError(
            f"{path} holds another network than config.model.name builds{hint}:\n  "
            + "\n  ".join(lines)
        )
    if there.in_channels != model.in_channels:
        weights = _with_channels(weights, there, model, path)
    return weights, there.num_classes


def variables_of(weights: Weights, path: str | os.PathLike, *, ema: bool = False) -> dict[str, Any]:
    """Returns {"params", "batch_stats"} of a checkpoint.

    Args:
        weights: what was read.
        path: where from, for messages.
        ema: take the moving average of the parameters; the statistics are averages as they are.

    Raises:
        UserError: there is no average.
    """
    if ema and weights.ema_params is None:
        raise UserError(
            f"{path} has no moving average of its parameters: leave ema out to take the parameters "
            "themselves. A run keeps an average with --config.ema_decay=0.9999"
        )
    params = weights.ema_params if ema else weights.params
    return {"params": params, "batch_stats": weights.batch_stats}


def check_source(path: str | os.PathLike) -> None:
    """Checks by its name alone whether a checkpoint can lie at `path`, here or on a hub.

    Raises:
        UserError: none can.
    """
    if not hub_address(path):
        absolute(path)


def _with_channels(
    weights: Weights, saved: ShuntedTransformer, model: ShuntedTransformer, path: str | os.PathLike
) -> Weights:
    before, now = saved.in_channels, model.in_channels
    how = "summed over them" if now == 1 else f"repeated in turn and scaled by {before}/{now}"
    logger.info(
        "%s takes images of %d channels, and these have %d: the stem's kernel is %s",
        *(path, before, now, how),
    )
    return weights.changed(lambda params: with_stem_for(params, now))


def _read(path: str | os.PathLike, step: int | str) -> Weights:
    if not is_shared(path):
        return read_weights(path, step)
    if isinstance(step, int):
        raise UserError(f"{path} is no run's: there is no step {step} to choose in it")
    return read_shared(path)


def _problems(leaves, wanted) -> str:
    """Returns a line for each array that does not fit the network, each with a newline before."""
    return "".join(
        f"\n  {name}: {has} in the checkpoint, {wants} in the network"
        for name, has, wants in differing_shapes(leaves, wanted)
    )
