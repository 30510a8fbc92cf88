"""From what people have in their files to a flat state dict under the published names.

Files differ in what the weights are wrapped in, in a prefix on every name, and in the names of a
few tensors; each difference that was seen in public files is undone here, and accounted for.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from shunted_jax.errors import UserError

COUNTER = ".num_batches_tracked"

# In this order: a training checkpoint's own weights go before their moving average.
_WRAPPERS = ("model", "state_dict", "model_ema", "state_dict_ema", "net")

# Every Shunted Transformer has this tensor, and hardly anything else does.
_LANDMARK = "patch_embed1.conv.0.weight"

# The Towhee port flattens the module around the feed-forward's depthwise convolution.
_RENAMES = {
    ".mlp.dwconv.weight": ".mlp.dwconv.dwconv.weight",
    ".mlp.dwconv.bias": ".mlp.dwconv.dwconv.bias",
}

# Tensors that tell which other network a file belongs to.
_OTHER_NETWORKS = {
    "layer1.0.conv1.weight": "a ResNet's",
    "block1.0.attn.sr.weight": "a Pyramid Vision Transformer's (PVT)",
    "layers.0.blocks.0.attn.relative_position_bias_table": "a Swin Transformer's",
    "blocks.0.attn.qkv.weight": "a Vision Transformer's",
}


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """A state dict under the published names, and what was done to get it.

    Attributes:
        tensors: names to arrays.
        unwrapped: the keys that the tensors were found under, from outside to inside.
        prefix: what was stripped from each name.
        renamed: how many tensors had another name.
        foreign: tensors outside the prefix, under their own names.
        ignored: those that were left out because that was asked for.
        counters: each batch norm's `num_batches_tracked`.
    """

    tensors: dict[str, np.ndarray]
    unwrapped: tuple[str, ...] = ()
    prefix: str = ""
    renamed: int = 0
    foreign: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    counters: dict[str, int] = dataclasses.field(default_factory=dict)


def clean(loaded: Any, prefix: str | None = None) -> Cleaned:
    """Unwraps, strips and renames.

    Args:
        loaded: a mapping of names to arrays, possibly inside other mappings.
        prefix: of the network's tensors; None finds it, where there is one network.

    Raises:
        UserError: there is no Shunted Transformer in it, or there are several.
    """
    tensors, unwrapped = _unwrap(loaded)
    prefix = _find_prefix(tensors, prefix)
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    foreign = tuple(sorted(name for name in tensors if not name.startswith(prefix)))
    published, renamed = {}, 0
    for name, tensor in own.items():
        for theirs, ours in _RENAMES.items():
            if name.endswith(theirs):
                name, renamed = name.removesuffix(theirs) + ours, renamed + 1
        published[name] = tensor
    counters = {
        name: int(tensor)
        for name, tensor in published.items()
        if name.endswith(COUNTER) and tensor.ndim == 0 and tensor.dtype.kind in "iu"
    }
    return Cleaned(published, unwrapped, prefix, renamed, foreign, (), counters)


def _unwrap(loaded: Any) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    path: list[str] = []
    while isinstance(loaded, Mapping):
        inside = [name for name in _WRAPPERS if isinstance(loaded.get(name), Mapping)]
        if not inside:
            break
        path.append(inside[0])
        loaded = loaded[inside[0]]
    if not isinstance(loaded, Mapping):
        raise UserError(
            f"the file holds a {type(loaded).__name__}, not a mapping of names to tensors: save "
            "network.state_dict()"
        )
    # Numbers and texts beside the tensors (an epoch, a version) are nothing to convert.
    tensors = {str(n): np.asarray(t) for n, t in loaded.items() if hasattr(t, "shape")}
    if not tensors:
        known = ", ".join(str(name) for name in list(loaded)[:8]) or "nothing"
        raise UserError(f"the file holds no tensors; at its top it has {known}")
    return tensors, tuple(path)


def _find_prefix(tensors: Mapping[str, np.ndarray], asked: str | None) -> str:
    found = sorted(n.removesuffix(_LANDMARK) for n in tensors if n.endswith(_LANDMARK))
    found = [prefix for prefix in found if not prefix or prefix.endswith(".")]
    shown = ", ".join(repr(prefix) for prefix in found)
    if asked is not None:
        wanted = asked if not asked or asked.endswith(".") else f"{asked}."
        if wanted not in found:
            raise UserError(
                f"no Shunted Transformer lies under the prefix {asked!r}; "
                + (f"those that the file holds lie under {shown}" if found else _what_else(tensors))
            )
        return wanted
    if len(found) > 1:
        raise UserError(
            f"the file holds {len(found)} Shunted Transformers, under {shown}: say which with "
            f"--prefix {found[0] or repr('')}"
        )
    if not found:
        raise UserError(_what_else(tensors))
    return found[0]


def _what_else(tensors: Mapping[str, np.ndarray]) -> str:
    for landmark, whose in _OTHER_NETWORKS.items():
        if any(name == landmark or name.endswith(f".{landmark}") for name in tensors):
            return f"this is {whose} checkpoint (it has {landmark}), not a Shunted Transformer's"
    names = ", ".join(list(tensors)[:4])
    return (
        f"this is no Shunted Transformer's checkpoint: none of its {len(tensors):,} tensors is "
        f"{_LANDMARK}; the first are {names}"
    )
