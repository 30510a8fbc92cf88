"""From what people have in their files to a flat state dict under the published names.

Files differ in a prefix on every name, in the names of a few tensors, and in the axes of linear
weights; each difference that was seen in public files is undone here, and accounted for.
"""

import dataclasses
import re
import shlex
from typing import Any

import numpy as np

from shunted_jax.convert.finding import LONGEST, Found, is_tensor
from shunted_jax.convert.names import AVERAGES, COUNTER, LANDMARK, published, shown, unwrapped
from shunted_jax.convert.paddle import is_paddle, is_static, unpacked, with_torch_axes
from shunted_jax.convert.pickles import Record, Stored
from shunted_jax.errors import UserError, some

# Tensors that tell which other network a file belongs to.
_OTHER_NETWORKS = {
    "layer1.0.conv1.weight": "a ResNet's",
    "block1.0.attn.sr.weight": "a Pyramid Vision Transformer's (PVT)",
    "layers.0.blocks.0.attn.relative_position_bias_table": "a Swin Transformer's",
    "blocks.0.attn.qkv.weight": "a Vision Transformer's",
}

# What networks for segmentation and detection have beside their backbone.
_BACKBONE = "backbone."
BESIDE_BACKBONE = {"decode_head", "auxiliary_head", "neck"}
BESIDE_BACKBONE |= {"rpn_head", "roi_head", "bbox_head", "mask_head"}
_OWN = re.compile(r"(patch_embed|block|norm)\d+\.|head\.")


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """A state dict under the published names, and what was done to get it.

    Attributes:
        tensors: names to arrays, or to what becomes one by `numpy.asarray`.
        unwrapped: the keys that the tensors were found under, from outside to inside.
        prefix: what was stripped from each name.
        renamed: how many tensors had another name.
        paddle: whether the file has Paddle's tables or names.
        transposed: whether linear weights lay the other way, as Paddle keeps them.
        foreign: tensors outside the prefix, under their own names.
        beside: those of the parts that a network has beside its backbone.
        ignored: those that were left out because that was asked for.
        counters: each batch norm's `num_batches_tracked`.
    """

    tensors: dict[str, Any]
    unwrapped: tuple[str, ...] = ()
    prefix: str = ""
    renamed: int = 0
    paddle: bool = False
    transposed: bool = False
    foreign: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    counters: dict[str, int] = dataclasses.field(default_factory=dict)


def clean(found: Found, prefix: str | None = None) -> Cleaned:
    """Strips and renames.

    Args:
        found: a state dict, and where it stood.
        prefix: of the network's tensors; None finds it, where there is one network.

    Raises:
        UserError: there is no Shunted Transformer in it, or there are several, or what should be a
            tensor of its is none.
    """
    values = {n: t for n, t in unpacked(found.tensors).items() if isinstance(n, str)}
    if long := [name for name in values if len(name) > LONGEST]:
        raise UserError(f"a name in the file has {len(long[0]):,} letters: {shown(long[0])}")
    values = {shown(name): tensor for name, tensor in values.items()}
    values = {n: t for n, t in values.items() if n.rpartition(".")[2] != AVERAGES}
    named = [n for n, t in values.items() if is_tensor(t) or isinstance(t, Record)]
    prefix = _find_prefix(named, prefix)
    start = unwrapped(prefix)
    own: dict[str, Any] = {}
    came_from: dict[str, str] = {}
    foreign, renamed = [], 0
    for name, value in values.items():
        ours = published(name)
        if not ours.startswith(start):
            foreign += [name] if is_tensor(value) else []
            continue
        ours = ours.removeprefix(start)
        if not is_tensor(value):
            _check_needless(name, ours, value)
            continue
        if ours in own:
            raise UserError(f"two tensors are {ours}: {came_from[ours]} and {name}")
        renamed += ours != unwrapped(name).removeprefix(start)
        came_from[ours] = name
        own[ours] = value if isinstance(value, Stored) else np.asarray(value)
    _check_whole(own[LANDMARK])
    counters = {
        name: int(np.asarray(tensor))
        for name, tensor in own.items()
        if name.endswith(COUNTER) and tensor.ndim == 0 and tensor.dtype.kind in "iu"
    }
    paddle = is_paddle(found.tensors)
    tensors, transposed = with_torch_axes(own, paddle)
    beside = tuple(sorted(name for name in foreign if _is_beside(name, start)))
    return Cleaned(
        tensors=tensors,
        unwrapped=found.path,
        prefix=prefix,
        renamed=renamed,
        paddle=paddle,
        transposed=transposed,
        foreign=tuple(sorted(set(foreign) - set(beside))),
        beside=beside,
        counters=counters,
    )


def _check_needless(name: str, ours: str, value: Any) -> None:
    """Refuses what stands where a tensor should: left out, it would change the network unseen."""
    if isinstance(value, Record) and "." in name:
        raise UserError(
            f"{name} is a {value.name}, which is not read: have the state dict saved with "
            "ordinary tensors, neither quantised nor sparse nor distributed"
        )
    # Other numbers and texts beside the tensors (an epoch, a version) are nothing to convert.
    if value is not None and _OWN.match(ours):
        raise UserError(f"{name} is a {type(value).__name__}, and not a tensor")


def _check_whole(landmark: Any) -> None:
    if landmark.ndim == 1 and landmark.shape[0] == 0:
        raise UserError(
            "its tensors are empty: this is a part of what DeepSpeed's ZeRO-3 saved. `python "
            "zero_to_fp32.py . whole`, in its folder, makes a whole one of the parts"
        )


def _is_beside(name: str, start: str) -> bool:
    if not start.endswith(_BACKBONE):
        return False
    network = start.removesuffix(_BACKBONE)
    name = unwrapped(name)
    return name.startswith(network) and (
        name.removeprefix(network).partition(".")[0] in BESIDE_BACKBONE
    )


def _find_prefix(names: list[str], asked: str | None) -> str:
    """Returns what stands before the names of a network, as the file has it."""
    found = {}
    for name in names:
        ours = published(name)
        start = ours.removesuffix(LANDMARK)
        if ours.endswith(LANDMARK) and (not start or start.endswith(".")):
            # What the file has before it: more than `start` where a wrapper's name is in it.
            there = name[: name.find(LANDMARK.partition(".")[0][:-1])]
            found.setdefault(start, there if unwrapped(there) == start else start)
    listed = some([repr(prefix) for prefix in sorted(found.values())])
    if asked is not None:
        wanted = asked if not asked or asked.endswith(".") else f"{asked}."
        if unwrapped(wanted) not in found:
            raise UserError(
                f"no Shunted Transformer lies under the prefix {asked!r}; "
                + (f"those that the file holds lie under {listed}" if found else _what_else(names))
            )
        return found[unwrapped(wanted)]
    if len(found) > 1:
        first = min(found.values())
        raise UserError(
            f"the file holds {len(found)} Shunted Transformers, under {listed}: say which with "
            f"--prefix {shlex.quote(first)}"
        )
    if not found:
        raise UserError(_what_else(names))
    return next(iter(found.values()))


def _what_else(names: list[str]) -> str:
    for landmark, whose in _OTHER_NETWORKS.items():
        if any(unwrapped(name) == landmark or name.endswith(f".{landmark}") for name in names):
            return f"this is {whose} checkpoint (it has {landmark}), not a Shunted Transformer's"
    if is_static(names):
        return (
            "these are the parameters of a static graph of Paddle's, which names them by kind and "
            f"number, such as {names[0]}: in the program that trained, "
            'paddle.save(network.state_dict(), "weights.pdparams")'
        )
    first = ", ".join(names[:4])
    return (
        f"this is no Shunted Transformer's checkpoint: none of its {len(names):,} tensors is "
        f"{LANDMARK}; the first are {first}"
    )
