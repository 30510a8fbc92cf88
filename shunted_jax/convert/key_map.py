"""The table of names: each tensor of the PyTorch state dict and where it lies in Flax.

The table is not written out: `key_map` derives it from a model's fields, so that it holds for any
widths, depths and ratios.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from einops import rearrange

from shunted_jax.models.shunted import ShuntedTransformer

# Fields that are either so or not, and how the name of a tensor starts that is there if they are.
SHOWN_BY = {"qkv_bias": "block1.0.attn.q.bias"}

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

    def torch_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns a leaf's shape with its axes in PyTorch's order: of any size, without memory."""
        if not self.pattern:
            return tuple(shape)
        torch_axes, flax_axes = (axes.split() for axes in self.pattern.split(" -> "))
        sizes = dict(zip(flax_axes, shape, strict=True))
        return tuple(sizes[axis] for axis in torch_axes)


def key_map(model: ShuntedTransformer) -> list[Entry]:
    """Returns one entry for each tensor of `model`, in the published state dict's order.

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
                model, index, f"block{number}.{block}", f"{stage}/blocks_{block}"
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


def _block_entries(
    model: ShuntedTransformer, stage: int, torch_name: str, path: str
) -> Iterator[Entry]:
    yield from _norm(f"{torch_name}.norm1", f"{path}/norm1")
    yield from _attention_entries(model, stage, f"{torch_name}.attn", f"{path}/attention")
    yield from _norm(f"{torch_name}.norm2", f"{path}/norm2")
    yield from _linear(f"{torch_name}.mlp.fc1", f"{path}/mlp/fc1")
    yield from _conv(f"{torch_name}.mlp.dwconv.dwconv", f"{path}/mlp/depthwise")
    yield from _linear(f"{torch_name}.mlp.fc2", f"{path}/mlp/fc2")


def _attention_entries(
    model: ShuntedTransformer, stage: int, torch_name: str, path: str
) -> Iterator[Entry]:
    shunted = model.sr_ratios[stage] > 1
    yield from _linear(f"{torch_name}.q", f"{path}/q", model.qkv_bias)
    yield from _linear(f"{torch_name}.proj", f"{path}/proj")
    # PyTorch numbers the groups of heads: 1 is the coarse one, 2 the fine one.
    groups = (("1", f"{path}/coarse"), ("2", f"{path}/fine")) if shunted else (("", path),)
    for suffix, group in groups if shunted else ():
        yield from _conv(f"{torch_name}.sr{suffix}", f"{group}/aggregation/conv")
        yield from _norm(f"{torch_name}.norm{suffix}", f"{group}/aggregation/norm")
    for suffix, group in groups:
        yield from _linear(f"{torch_name}.kv{suffix}", f"{group}/kv", model.qkv_bias)
    for suffix, group in groups:
        yield from _conv(f"{torch_name}.local_conv{suffix}", f"{group}/local_enhancement")
