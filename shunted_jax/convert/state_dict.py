"""State dicts to Flax variables and back, strict both ways: nothing left over, nothing left out."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from shunted_jax.convert.cleaning import Cleaned, clean
from shunted_jax.convert.finding import Found, find_state_dict
from shunted_jax.convert.inference import infer_fields
from shunted_jax.convert.key_map import key_map
from shunted_jax.convert.names import COUNTER
from shunted_jax.convert.pickles import Stored
from shunted_jax.errors import UserError, in_lines
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.architecture import variant_of
from shunted_jax.models.variables import abstract_variables

StateDict = Mapping[str, Any]  # arrays, or what becomes one by numpy.asarray
Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What came of a state dict.

    Attributes:
        model: the network that the tensors belong to.
        variables: {"params", "batch_stats"}, nested dicts of numpy arrays.
        variant: the published variant's name, or "custom".
        found: where the state dict stood, and what stood beside it.
        cleaned: what was unwrapped, stripped, renamed and left out on the way.
        head_left_out: whether a head was dropped because that was asked for.
    """

    model: ShuntedTransformer
    variables: Variables
    variant: str
    found: Found
    cleaned: Cleaned
    head_left_out: bool


def convert_state_dict(
    state_dict: Any,
    *,
    model: str | None = None,
    num_heads: tuple[int, ...] | None = None,
    from_key: str | None = None,
    prefix: str | None = None,
    drop_head: bool = False,
    ignore_unexpected: bool = False,
) -> Conversion:
    """Turns a PyTorch state dict into a network and its variables, and tells what happened.

    Args:
        state_dict: names to arrays, prefixed or renamed, in whatever holds them.
        model: the variant that it must be; None finds out.
        num_heads: attention heads of each stage; None takes the variant's, or channels / 32.
        from_key: what the state dict stands under, where there are several; None takes the plain
            one.
        prefix: of the network's tensors, where the file holds several.
        drop_head: leave the classifier out.
        ignore_unexpected: leave out tensors that are not the network's instead of refusing them.

    Returns:
        The model, its variables, and an account.

    Raises:
        UserError: it is not a Shunted Transformer's, or does not fit; all problems are listed.
    """
    found = find_state_dict(state_dict, from_key)
    cleaned = clean(found, prefix)
    tensors = dict(cleaned.tensors)
    has_head = any(name.startswith("head.") for name in tensors)
    if drop_head:
        tensors = {name: t for name, t in tensors.items() if not name.startswith("head.")}
    fields = infer_fields(tensors, model, num_heads)
    try:
        network = ShuntedTransformer(**fields)
    except ValueError as error:
        raise UserError(f"the tensors describe no network that can be: {error}") from error
    expected = {entry.torch_name for entry in key_map(network)}
    if ignore_unexpected:
        kept = {n: t for n, t in tensors.items() if n in expected or n.endswith(COUNTER)}
        ignored = cleaned.foreign + tuple(sorted(tensors.keys() - kept.keys()))
        cleaned, tensors = dataclasses.replace(cleaned, ignored=ignored, foreign=()), kept
    variables = load_state_dict(network, tensors, foreign=cleaned.foreign)
    variant = variant_of(network) or "custom"
    return Conversion(network, variables, variant, found, cleaned, drop_head and has_head)


def load_state_dict(
    model: ShuntedTransformer, state_dict: StateDict, foreign: tuple[str, ...] = ()
) -> Variables:
    """Fills `model`'s variables from a state dict of exactly its shape, under the published names.

    Args:
        model: what the tensors belong to.
        state_dict: the published names to arrays; `num_batches_tracked` entries are left out.
        foreign: names to report as unexpected besides.

    Returns:
        {"params", "batch_stats"}, nested dicts of numpy arrays of the model's `param_dtype`
        (running statistics float32).

    Raises:
        UserError: tensors missing, left over or of a wrong shape; all of them are listed.
    """
    shapes = abstract_variables(model)
    unused = {name for name in state_dict if not name.endswith(COUNTER)}
    entries, problems = key_map(model), []
    for entry in entries:
        if entry.torch_name not in unused:
            problems.append(f"missing     {entry.torch_name}")
            continue
        unused.remove(entry.torch_name)
        tensor, wanted = state_dict[entry.torch_name], shapes[entry.path]
        torch_shape = entry.torch_shape(wanted.shape)
        if tensor.shape != torch_shape:
            problems.append(
                f"wrong shape {entry.torch_name}: {tensor.shape} in the file, {torch_shape} in the "
                "network"
            )
        elif not _is_real(tensor):
            problems.append(f"wrong type  {entry.torch_name}: {tensor.dtype}, not floating point")
    problems += [f"unexpected  {name}" for name in sorted(unused | set(foreign))]
    if problems:
        raise UserError("the state dict does not fit the network:" + in_lines(problems))
    # Nothing is read before all is known to fit: sizes that lie are refused without their numbers.
    leaves = {}
    for entry in entries:
        numbers = _read(state_dict[entry.torch_name], shapes[entry.path].dtype)
        leaves[entry.path] = entry.to_flax(numbers)
    return traverse_util.unflatten_dict(leaves)


def to_torch(
    model: ShuntedTransformer,
    variables: Variables,
    *,
    num_batches_tracked: Mapping[str, int] | int = 0,
) -> dict[str, np.ndarray]:
    """Returns `variables` under the published names and axes, the inverse of `from_torch`.

    Args:
        model: the network.
        variables: its {"params", "batch_stats"}.
        num_batches_tracked: what PyTorch's batch norms count and Flax's do not: a number for each
            entry of that name, or one for all.

    Returns:
        Names to numpy arrays, ready for `{k: torch.from_numpy(v) for k, v in ...}`.
    """
    leaves = traverse_util.flatten_dict(variables)
    state_dict = {}
    for entry in key_map(model):
        state_dict[entry.torch_name] = entry.to_torch(np.asarray(leaves[entry.path]))
        if entry.torch_name.endswith(".running_var"):  # the last tensor of a batch norm
            counter = entry.torch_name.removesuffix(".running_var") + COUNTER
            count = num_batches_tracked
            count = count if isinstance(count, int) else count.get(counter, 0)
            state_dict[counter] = np.asarray(count, np.int64)
    return state_dict


def _is_real(tensor: Any) -> bool:
    # Those of machine learning are no kind of numpy's own, and cast to float32 without loss.
    return tensor.dtype.kind == "f" or tensor.dtype.name.startswith(("bfloat", "float8"))


def _read(tensor: Any, dtype: np.dtype) -> np.ndarray:
    """Returns a tensor's numbers in memory of their own: one tensor of a file at a time."""
    with np.errstate(over="ignore", invalid="ignore"):  # the account says what is not finite
        return np.asarray(tensor).astype(dtype, copy=not isinstance(tensor, Stored))
