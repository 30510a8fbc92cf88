"""Reads off a compiled TPU program's text what its operations move, and what its devices exchange.

XLA's own figure of bytes accessed is an estimate that counts a map again for each piece of it that
is brought to the chip ahead of time, and takes a kernel's word for the kernel. Counted here is what
each top-level operation has in memory: operands and results at their full sizes, those that XLA
keeps on the chip (memory space S(1) in the text) left out, and of a copy or slice the moved part.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

_ITEM_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "f64": 8,
    "s64": 8,
    "u64": 8,
}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_OPERATION = re.compile(r"\s*(?:ROOT )?%?(?P<name>\S+) = (?P<type>\(.*?\)|\S+) (?P<kind>[\w\-]+)\(")
_SOURCE = re.compile(r'op_name="([^"]*)"')
# Only names for what others have made, or the ends of what is counted where it starts.
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all"}
_COLLECTIVE = re.compile(
    r" = (?P<type>\(.*?\)|\S+) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|"
    r"collective-permute|collective-broadcast)(?:-start)?\("
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """A top-level operation.

    Attributes:
        name: in the program.
        kind: of the operation: "fusion", "custom-call".
        source: the path of modules that it comes from; empty where XLA added it.
        memory_bytes: what it reads from the chip's memory and writes to it.
        total_bytes: its operands and results wherever they lie, a slice's source in full: XLA's way
            to count, but of kernels as well.
    """

    name: str
    kind: str
    source: str
    memory_bytes: int
    total_bytes: int


def operations(text: str) -> Iterator[Operation]:
    """Yields the operations of the entry computation that move anything.

    Args:
        text: `compiled.as_text()`. The bodies of loops are not looked into; the steps have none.
    """
    entry = text[text.index("\nENTRY ") :]
    entry = entry[: entry.index("\n}")]
    types = {}
    for line in entry.splitlines()[1:]:
        found = _OPERATION.match(line)
        if not found:
            continue
        types[found["name"]] = found["type"]
        if found["kind"] in _FREE or found["kind"].endswith("-done"):
            continue
        names = re.findall(r"%([\w.\-]+)", line[found.end() :].split(")")[0])
        of_all = [
            a for t in (found["type"], *(types.get(n, "") for n in names)) for a in _arrays(t)
        ]
        source = _SOURCE.search(line)
        yield Operation(
            name=found["name"],
            kind=found["kind"],
            source=source[1] if source else "",
            memory_bytes=_memory_bytes(found, of_all),
            total_bytes=sum(map(_size, of_all)),
        )


def by_module(text: str) -> dict[str, float]:
    """Returns the gigabytes in memory of each part of the network, the largest first.

    The parts are the stem, each stage's norms, attention and feed-forward, forward and backward,
    and what has no source: copies that XLA added.
    """
    totals = collections.Counter()
    for operation in operations(text):
        totals[_module(operation)] += operation.memory_bytes / 1e9
    return {module: total for module, total in totals.most_common() if total}


def collectives(text: str) -> dict[str, dict[str, float]]:
    """Returns for each kind of collective how many there are, and the megabytes that they give."""
    found = collections.defaultdict(lambda: {"count": 0, "megabytes": 0.0})
    for match in _COLLECTIVE.finditer(text):
        found[match["kind"]]["count"] += 1
        found[match["kind"]]["megabytes"] += sum(map(_size, _arrays(match["type"]))) / 1e6
    return dict(found)


def _arrays(type_text: str) -> list[tuple[str, str, str]]:
    """Returns element type, shape and layout of each array of a type, be it a tuple's or not."""
    return _ARRAY.findall(type_text)


def _memory_bytes(operation: re.Match, arrays: list[tuple[str, str, str]]) -> int:
    if operation["kind"] in ("slice-start", "copy-start"):
        # Results are (source, destination, context) of a slice, (destination, source, context) of a
        # copy: the part moved, on each side that is not on the chip.
        sides = arrays[:2]
        moved = min(map(_size, sides))
        return moved * sum(not _is_on_chip(side) for side in sides)
    return sum(_size(array) for array in arrays if not _is_on_chip(array))


def _is_on_chip(array: tuple[str, str, str]) -> bool:
    return "S(" in array[2]


def _size(array: tuple[str, str, str]) -> int:
    dtype, shape, _ = array
    return _ITEM_BYTES.get(dtype, 0) * math.prod(int(n) for n in shape.split(",") if n)


def _module(operation: Operation) -> str:
    if not operation.source:
        return f"no source: {operation.kind}"
    direction = "backward" if "transpose(" in operation.source else "forward"
    if found := re.search(r"stages_(\d)/blocks_\d+/(attention|mlp|\w+)", operation.source):
        part = found[2] if found[2] in ("attention", "mlp") else "norms and sums"
        return f"stage {int(found[1]) + 1}, {part}, {direction}"
    if found := re.search(r"stages_(\d)/", operation.source):
        return f"stage {int(found[1]) + 1}, embedding and norm, {direction}"
    return f"stem, {direction}" if "/stem" in operation.source else "the rest"
