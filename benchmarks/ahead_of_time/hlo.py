"""Reads the text of a compiled program: its computations, their instructions, and their arrays."""

import dataclasses
import functools
import math
import re

_ITEM_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "f8e4m3fn": 1,
    "f8e5m2": 1,
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
_INSTRUCTION = re.compile(
    r"\s*(?P<root>ROOT )?%?(?P<name>\S+) = (?P<type>\(.*?\)|\S+) (?P<kind>[\w\-]+)\("
)
_CALLS = (
    r"((?:calls|to_apply)=%[^\s,]+|branch_computations=\{[^}]*\}"
    r"|true_computation=\S+ false_computation=[^\s,]+)"
)
_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .*\{$")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of a type.

    Attributes:
        dtype: as XLA writes it, "bf16".
        shape: as it writes it, "128,56,56,64".
        layout: its braces and what is in them; empty where there are none.
    """

    dtype: str
    shape: str
    layout: str

    def __str__(self) -> str:
        return f"{self.dtype}[{self.shape}]"

    @property
    def size(self) -> int:
        """Its bytes; none of what is no array, such as a token."""
        return _ITEM_BYTES.get(self.dtype, 0) * math.prod(
            map(int, filter(None, self.shape.split(",")))
        )


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation.

    Attributes:
        name: in the program.
        kind: of the operation: "fusion", "custom-call".
        results: the array that it gives, or those of the tuple.
        operands: the names of what it takes.
        text: the whole line.
        is_root: whether its result is the computation's.
    """

    name: str
    kind: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    text: str
    is_root: bool

    @property
    def size(self) -> int:
        """The bytes of its results."""
        return sum(array.size for array in self.results)

    @property
    def source(self) -> str:
        """The path of modules that it comes from; empty where XLA added it."""
        return self.attribute(r'op_name="([^"]*)"')

    @property
    def calls(self) -> tuple[str, ...]:
        """The computations of a fusion, a call or a condition."""
        return tuple(re.findall(r"%([\w.\-]+)", self.attribute(_CALLS)))

    def attribute(self, pattern: str) -> str:
        """Returns what the group of a pattern finds in the line; an empty text where nothing is."""
        found = re.search(pattern, self.text)
        return found[1] if found else ""


class Computation:
    """A function of the program: its instructions by name, each behind those that it takes."""

    def __init__(self, lines: list[str]):
        found = filter(None, map(_instruction, lines))
        self.instructions = {instruction.name: instruction for instruction in found}

    @functools.cached_property
    def root(self) -> Instruction:
        """The instruction whose result is the computation's."""
        return next(line for line in self.instructions.values() if line.is_root)

    def parameter(self, index: int) -> Instruction:
        """Returns what stands for an argument of the computation."""
        return self._parameters[index]

    def arrays(self, name: str) -> tuple[Array, ...]:
        """Returns the results of an instruction; none where it is not known."""
        return self.instructions[name].results if name in self.instructions else ()

    def size(self, name: str) -> int:
        """Returns the bytes of an instruction's results."""
        return sum(array.size for array in self.arrays(name))

    def behind_bitcasts(self, name: str) -> Instruction:
        """Returns the instruction that made what others only give another shape."""
        found = self.instructions[name]
        return self.behind_bitcasts(found.operands[0]) if found.kind == "bitcast" else found

    @functools.cached_property
    def _parameters(self) -> dict[int, Instruction]:
        return {
            int(line.attribute(r" parameter\((\d+)\)")): line
            for line in self.instructions.values()
            if line.kind == "parameter"
        }


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        computations: by name: the entry, bodies of loops, what fusions compute.
        entry: the one that is run.
    """

    computations: dict[str, Computation]
    entry: Computation


def parse(text: str) -> Program:
    """Returns the program that `compiled.as_text()` writes out."""
    computations, entry, lines = {}, "", None
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            lines = computations.setdefault(found["name"], [])
            entry = found["name"] if found["entry"] else entry
        elif line.startswith("}"):
            lines = None
        elif lines is not None:
            lines.append(line)
    read = {name: Computation(lines) for name, lines in computations.items()}
    return Program(read, read[entry])


def _instruction(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(line)
    if not found:
        return None
    return Instruction(
        name=found["name"],
        kind=found["kind"],
        results=tuple(Array(*array) for array in _ARRAY.findall(found["type"])),
        operands=tuple(re.findall(r"%([\w.\-]+)", line[found.end() :].split(")")[0])),
        text=line,
        is_root=found["root"] is not None,
    )
