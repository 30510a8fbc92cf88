"""PyTorch state dicts and Flax variables: one table of names, read both ways, strict both ways.

The table is not written out: `key_map` derives it from a model's fields, so that it holds for any
widths, depths and ratios. Nothing here needs PyTorch; a state dict is a mapping of names to arrays.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from einops import rearrange
from flax import traverse_util

from shunted_jax.models.shunted import ShuntedTransformer

StateDict = Mapping[str, np.ndarray]
Variables = dict[str, Any]

# How a PyTorch tensor's axes lie in Flax, as einops patterns; None leaves them.
_LINEAR = "o i -> i o"
_CONV = "o i height width -> height width i o"


class Entry(NamedTuple):
    """One tensor: its name in the state dict, its path in the variables, its change of axes."""

    torch_name: str
    path: tuple[str, ...]
    pattern: str | None

    def to_flax(self, tensor: np.ndarray) -> np.ndarray:
        """Returns the tensor with its axes in Flax's order."""
        return np.ascontiguousarray(rearrange(tensor, self.pattern) if self.pattern else tensor)

    def to_torch(self, leaf: np.ndarray) -> np.ndarray:
        """Returns the leaf with its axes in PyTorch's order."""
        if not self.pattern:
            return np.ascontiguousarray(leaf)
        torch_axes, flax_axes = self.pattern.split(" -> ")
        return np.ascontiguousarray(rearrange(leaf, f"{flax_axes} -> {torch_axes}"))


def key_map(model: ShuntedTransformer) -> list[Entry]:
    """Returns one entry for each tensor of `model`, in the published state dict's own terms.

    `num_batches_tracked`, which Flax's batch norm does not keep, has none.
    """
    return list(_model_entries(model))


def _linear(torch_name: str, path: str, bias: bool = True) -> Iterator[Entry]:
    yield from _weight_and_bias(torch_name, path, "kernel", _LINEAR, bias)


def _conv(torch_name: str, path: str, bias: bool = True) -> Iterator[Entry]:
    yield from _weight_and_bias(torch_name, path, "kernel", _CONV, bias)


def _norm(torch_name: str, path: str) -> Iterator[Entry]:
    yield from _weight_and_bias(torch_name, path, "scale", None, bias=True)


def _batch_norm(torch_name: str, path: str) -> Iterator[Entry]:
    yield from _norm(torch_name, path)
    for buffer, leaf in (("running_mean", "mean"), ("running_var", "var")):
        yield Entry(f"{torch_name}.{buffer}", ("batch_stats", *path.split("/"), leaf), None)


def _weight_and_bias(torch_name, path, leaf, pattern, bias):
    yield Entry(f"{torch_name}.weight", ("params", *path.split("/"), leaf), pattern)
    if bias:
        yield Entry(f"{torch_name}.bias", ("params", *path.split("/"), "bias"), None)


def _model_entries(model: ShuntedTransformer) -> Iterator[Entry]:
    yield from _stem_entries(model.num_stem_convs)
    for index, depth in enumerate(model.depths):
        stage, number = f"stages_{index}", index + 1
        if index:
            yield from _conv(f"patch_embed{number}.proj", f"{stage}/patch_embed/proj")
            yield from _norm(f"patch_embed{number}.norm", f"{stage}/patch_embed/norm")
        for block in range(depth):
            yield from _block_entries(
                f"block{number}.{block}",
                f"{stage}/blocks_{block}",
                shunted=model.sr_ratios[index] > 1,
                qkv_bias=model.qkv_bias,
            )
        yield from _norm(f"norm{number}", f"{stage}/norm")
    if model.num_classes:
        yield from _linear("head", "head")


def _stem_entries(num_stem_convs: int) -> Iterator[Entry]:
    # A torch.nn.Sequential: convolution, batch norm and ReLU, thrice an index each.
    for conv in range(1 + num_stem_convs):
        yield from _conv(f"patch_embed1.conv.{3 * conv}", f"stem/conv_{conv}", bias=False)
        yield from _batch_norm(f"patch_embed1.conv.{3 * conv + 1}", f"stem/batch_norm_{conv}")
    yield from _conv(f"patch_embed1.conv.{3 * (1 + num_stem_convs)}", "stem/reduce")
    yield from _norm("patch_embed1.norm", "stem/norm")


def _block_entries(torch_name: str, path: str, shunted: bool, qkv_bias: bool) -> Iterator[Entry]:
    yield from _norm(f"{torch_name}.norm1", f"{path}/norm1")
    yield from _attention_entries(f"{torch_name}.attn", f"{path}/attention", shunted, qkv_bias)
    yield from _norm(f"{torch_name}.norm2", f"{path}/norm2")
    yield from _linear(f"{torch_name}.mlp.fc1", f"{path}/mlp/fc1")
    yield from _conv(f"{torch_name}.mlp.dwconv.dwconv", f"{path}/mlp/depthwise")
    yield from _linear(f"{torch_name}.mlp.fc2", f"{path}/mlp/fc2")


def _attention_entries(
    torch_name: str, path: str, shunted: bool, qkv_bias: bool
) -> Iterator[Entry]:
    yield from _linear(f"{torch_name}.q", f"{path}/q", qkv_bias)
    yield from _linear(f"{torch_name}.proj", f"{path}/proj")
    # PyTorch numbers the groups of heads: 1 is the coarse one, 2 the fine one.
    groups = (("1", f"{path}/coarse"), ("2", f"{path}/fine")) if shunted else (("", path),)
    for suffix, group in groups:
        if shunted:
            yield from _conv(f"{torch_name}.sr{suffix}", f"{group}/aggregation/conv")
            yield from _norm(f"{torch_name}.norm{suffix}", f"{group}/aggregation/norm")
        yield from _linear(f"{torch_name}.kv{suffix}", f"{group}/kv", qkv_bias)
        yield from _conv(f"{torch_name}.local_conv{suffix}", f"{group}/local_enhancement")


def load_state_dict(model: ShuntedTransformer, state_dict: StateDict) -> Variables:
    """Fills `model`'s variables from a PyTorch state dict of exactly its shape.

    Args:
        model: what the tensors belong to.
        state_dict: the published names to arrays; `num_batches_tracked` entries are left out.

    Returns:
        {"params", "batch_stats"}, nested dicts of numpy arrays of the model's `param_dtype`
        (running statistics float32).

    Raises:
        ValueError: tensors missing, left over or of a wrong shape; all of them are listed.
    """
    shapes = _leaf_shapes(model)
    unused = {name for name in state_dict if not name.endswith(".num_batches_tracked")}
    leaves, problems = {}, []
    for entry in key_map(model):
        if entry.torch_name not in state_dict:
            problems.append(f"missing    {entry.torch_name}")
            continue
        unused.remove(entry.torch_name)
        tensor = np.asarray(state_dict[entry.torch_name])
        wanted = shapes[entry.path]
        torch_shape = entry.to_torch(np.broadcast_to(np.int8(0), wanted.shape)).shape
        if tensor.shape != torch_shape:
            problems.append(
                f"shape      {entry.torch_name} is {tensor.shape} in the file, "
                f"{torch_shape} in the model"
            )
            continue
        leaves[entry.path] = entry.to_flax(tensor).astype(wanted.dtype)
    problems += [f"unexpected {name}" for name in sorted(unused)]
    if problems:
        raise ValueError("the state dict does not fit the model:\n  " + "\n  ".join(problems))
    return traverse_util.unflatten_dict(leaves)


def to_state_dict(model: ShuntedTransformer, variables: Variables) -> dict[str, np.ndarray]:
    """Returns `variables` under the published names and axes, the inverse of `load_state_dict`.

    `num_batches_tracked`, which Flax does not keep, is 0.
    """
    leaves = traverse_util.flatten_dict(variables)
    state_dict = {}
    for entry in key_map(model):
        state_dict[entry.torch_name] = entry.to_torch(np.asarray(leaves[entry.path]))
        if entry.torch_name.endswith("running_var"):
            prefix = entry.torch_name.removesuffix("running_var")
            state_dict[f"{prefix}num_batches_tracked"] = np.asarray(0, np.int64)
    return state_dict


def _leaf_shapes(model: ShuntedTransformer) -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    side = model.min_image_size
    images = jax.ShapeDtypeStruct((1, side, side, model.in_channels), np.float32)
    return traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images))
