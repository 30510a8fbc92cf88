"""Reads off a compiled TPU program's text what its operations move, and what its devices exchange.

XLA's own figure of bytes accessed is an estimate that counts a map again for each piece of it that
is brought to the chip ahead of time, and takes a kernel's word for the kernel. Counted here is what
each top-level operation has in memory: operands and results at their full sizes, those that XLA
keeps on the chip (memory space S(1) in the text) left out, and of a copy or slice the moved part.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator

from benchmarks.ahead_of_time import hlo
from benchmarks.ahead_of_time.parts import part_of

# Only names for what others have made, or the ends of what is counted where it starts.
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all"}
_COLLECTIVE = re.compile(
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast)"
    r"(?:-start)?"
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
    entry = hlo.parse(text).entry
    for instruction in entry.instructions.values():
        if instruction.kind in _FREE or instruction.kind.endswith("-done"):
            continue
        arrays = [*instruction.results]
        for name in instruction.operands:
            arrays += entry.arrays(name)
        yield Operation(
            name=instruction.name,
            kind=instruction.kind,
            source=instruction.source,
            memory_bytes=_memory_bytes(instruction.kind, arrays),
            total_bytes=sum(array.size for array in arrays),
        )


def by_module(text: str) -> dict[str, float]:
    """Returns the gigabytes in memory of each part of the network, the largest first.

    The parts are those of `part_of`, and what has no source: copies that XLA added.
    """
    totals = collections.Counter()
    for operation in operations(text):
        source = operation.source
        module = part_of(source) if source else f"no source: {operation.kind}"
        totals[module] += operation.memory_bytes / 1e9
    return {module: total for module, total in totals.most_common() if total}


def collectives(text: str) -> dict[str, dict[str, float]]:
    """Returns for each kind of collective how many there are, and the megabytes that they give."""
    found = collections.defaultdict(lambda: {"count": 0, "megabytes": 0.0})
    for computation in hlo.parse(text).computations.values():
        for instruction in computation.instructions.values():
            if kind := _COLLECTIVE.fullmatch(instruction.kind):
                found[kind[1]]["count"] += 1
                found[kind[1]]["megabytes"] += instruction.size / 1e6
    return dict(found)


def _memory_bytes(kind: str, arrays: list[hlo.Array]) -> int:
    if kind in ("slice-start", "copy-start"):
        # Results are (source, destination, context) of a slice, (destination, source, context) of a
        # copy: the part moved, on each side that is not on the chip.
        sides = arrays[:2]
        return min(side.size for side in sides) * sum(not _is_on_chip(side) for side in sides)
    return sum(array.size for array in arrays if not _is_on_chip(array))


def _is_on_chip(array: hlo.Array) -> bool:
    return "S(" in array.layout
