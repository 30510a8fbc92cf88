"""The network's fields, read off the names and shapes of its tensors."""

import re
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from shunted_jax.convert.key_map import SHOWN_BY
from shunted_jax.errors import UserError, in_lines
from shunted_jax.models import create_model, list_models
from shunted_jax.models.architecture import differences_from_variant

_HEAD_DIM = 32  # channels of an attention head, in every published variant

# Of a network. The largest published one has 34, and each takes a moment to be described.
_MOST_BLOCKS = 200
_WIDEST = 1 << 24  # channels or classes


def infer_fields(
    tensors: Mapping[str, np.ndarray],
    model: str | None = None,
    num_heads: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Returns fields of `ShuntedTransformer` that fit a state dict.

    Args:
        tensors: the published names to arrays.
        model: the variant that it must be; its heads are taken where `num_heads` is not given.
        num_heads: attention heads of each stage; the tensors do not show them.

    Raises:
        UserError: tensors that the fields are read off are missing or shaped like nothing known, or
            the network is not the variant asked for; all problems are listed.
    """
    if model is not None and model not in list_models():
        raise UserError(f"unknown model {model!r}; the models are {', '.join(list_models())}")
    problems: list[str] = []

    def dims(name: str, rank: int) -> tuple[int, ...]:
        if name not in tensors:
            problems.append(f"missing     {name}")
        elif tensors[name].ndim != rank or 0 in tensors[name].shape:
            problems.append(f"wrong shape {name}: {tensors[name].shape}, not of rank {rank}")
        elif max(tensors[name].shape) > _WIDEST:  # a few bytes can pose as that many
            problems.append(f"too large   {name}: {tensors[name].shape}")
        else:
            return tensors[name].shape
        return (1,) * rank

    def count(pattern: str, first: int) -> int:
        found = (re.match(pattern, name) for name in tensors)
        indices = {int(match[1]) for match in found if match and len(match[1]) < 100}
        missing = [index for index in range(first, first + len(indices)) if index not in indices]
        shown = pattern.replace("\\", "")
        problems.extend(f"missing     {shown.replace('(d+)', str(i))}*" for i in missing)
        return len(indices)

    stages = count(r"block(\d+)\.", first=1)
    if stages > _MOST_BLOCKS:
        raise UserError(
            f"the tensors are of {stages:,} stages, and {_MOST_BLOCKS} are the most read"
        )
    depths, embed_dims, mlp_ratios, sr_ratios = [], [], [], []
    for number in range(1, stages + 1):
        block = f"block{number}.0"
        depths.append(count(rf"block{number}\.(\d+)\.", first=0))
        hidden, dim = dims(f"{block}.mlp.fc1.weight", 2)
        embed_dims.append(dim)
        mlp_ratios.append(hidden // dim if hidden % dim == 0 else hidden / dim)
        reduces = any(name.startswith(f"{block}.attn.sr1.") for name in tensors)
        sr_ratios.append(dims(f"{block}.attn.sr1.weight", 4)[-1] if reduces else 1)
    stem_convs = [
        int(match[1])
        for name, tensor in tensors.items()
        if (match := re.fullmatch(r"patch_embed1\.conv\.(\d+)\.weight", name)) and tensor.ndim == 4
    ]
    in_channels = dims("patch_embed1.conv.0.weight", 4)[1]
    has_head = any(name.startswith("head.") for name in tensors)
    num_classes = dims("head.weight", 2)[0] if has_head else 0
    if sum(depths) > _MOST_BLOCKS:
        problems.append(f"too many    {sum(depths):,} blocks, and {_MOST_BLOCKS} are the most read")
    if stages == 0:
        problems.append("missing     block1.0 and all other blocks")
    if problems:
        raise UserError("the network cannot be told from its tensors:" + in_lines(problems))

    if num_heads is None:
        heads_of = create_model(model).num_heads if model else ()
        shunted = [ratio > 1 for ratio in sr_ratios]
        num_heads = heads_of or tuple(map(_heads, embed_dims, shunted, range(1, stages + 1)))
    fields = {
        "depths": tuple(depths),
        "embed_dims": tuple(embed_dims),
        "num_heads": tuple(num_heads),
        "mlp_ratios": tuple(mlp_ratios),
        "sr_ratios": tuple(sr_ratios),
        "num_stem_convs": len(stem_convs) - 2,  # beyond the first and the last
        "num_classes": num_classes,
        "in_channels": in_channels,
        **{field: any(n.startswith(start) for n in tensors) for field, start in SHOWN_BY.items()},
    }
    if model is not None:
        _check_variant(fields, model)
    return fields


def _heads(dim: int, shunted: bool, stage: int) -> int:
    # Shunted attention has as many coarse heads as fine ones.
    if dim % _HEAD_DIM or (shunted and dim // _HEAD_DIM % 2):
        raise UserError(
            f"stage {stage} is {dim} channels wide, which are no "
            + ("even number of " if shunted else "")
            + f"heads of {_HEAD_DIM} channels, and the tensors do not show how many heads there "
            "are: give --model or --num-heads (num_heads in Python)"
        )
    return dim // _HEAD_DIM


def _check_variant(fields: dict[str, Any], model: str) -> None:
    found = types.SimpleNamespace(**fields)
    if differing := differences_from_variant(found, model):
        lines = [f"{name}: {has} in the file, {wants} in {model}" for name, has, wants in differing]
        raise UserError(f"the file does not hold a {model}:\n  " + "\n  ".join(lines))
