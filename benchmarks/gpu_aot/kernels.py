"""Reads off a compiled GPU program's text which kernels it runs, and what each is there for."""

import dataclasses
from collections.abc import Iterator

from benchmarks.ahead_of_time import hlo
from benchmarks.ahead_of_time.parts import part_of
from benchmarks.gpu_aot.traffic import moved

# Only names for what others have made, or the ends of what is counted where it starts.
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all"}
_LIBRARIES = {
    "__cudnn$conv": "cuDNN convolution",
    "__cudnn$fmha": "cuDNN attention",
    "__cublas": "cuBLAS",
}
# A fusion is called after the first of these that it computes.
_FUSIONS = {"dot": "matrix product", "reduce": "reduction", "transpose": "transposition"}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel, or a library's call.

    Attributes:
        name: in the program.
        kind: what it does: "matrix product".
        part: of the network that it comes from.
        results: their types.
        size: the bytes that it moves each time.
        times: how often a run of the program runs it.
    """

    name: str
    kind: str
    part: str
    results: str
    size: int
    times: int

    @property
    def total(self) -> int:
        """The bytes that it moves in a run of the program."""
        return self.size * self.times


def kernels(text: str) -> list[Kernel]:
    """Returns the kernels of a program.

    Args:
        text: `compiled.as_text()`. The body of a loop counts as often as it runs, or once where XLA
            does not know. Of the branches of a condition, the one that moves most counts.
    """
    program = hlo.parse(text)
    return list(_kernels(program, program.entry, times=1))


def _kernels(program: hlo.Program, computation: hlo.Computation, times: int) -> Iterator[Kernel]:
    for line in computation.instructions.values():
        if line.kind in _FREE or line.kind.endswith("-done"):
            continue
        called = [
            list(_kernels(program, program.computations[name], times * runs))
            for name, runs in _called(line)
        ]
        if called:
            yield from max(called, key=lambda found: sum(kernel.total for kernel in found))
            continue
        fused = program.computations[line.calls[0]] if line.kind == "fusion" else None
        yield Kernel(
            name=line.name,
            kind=_kind(program, line),
            part=_part(line, fused),
            results=", ".join(map(str, line.results)),
            size=moved(line, computation, fused),
            times=times,
        )


def _called(line: hlo.Instruction) -> list[tuple[str, int]]:
    """Returns the computations that run as part of this one, and how often each."""
    if line.kind == "while":
        trips = line.attribute(r'"known_trip_count":\{"n":"(\d+)"')
        return [(line.attribute(r"body=%?([\w.\-]+)"), int(trips or 1))]
    if line.kind in ("call", "conditional"):
        return [(name, 1) for name in line.calls]
    return []


def _kind(program: hlo.Program, line: hlo.Instruction) -> str:
    if line.kind == "custom-call":
        target = line.attribute(r'custom_call_target="([^"]*)"')
        return next(
            (name for start, name in _LIBRARIES.items() if target.startswith(start)), target
        )
    if line.kind != "fusion":
        return line.kind
    computed = _computed(program, line)
    return next((name for kind, name in _FUSIONS.items() if kind in computed), "elementwise")


def _computed(program: hlo.Program, line: hlo.Instruction) -> set[str]:
    """Returns the kinds of all instructions in a fusion, and in those inside of it."""
    inside = [
        other for name in line.calls for other in program.computations[name].instructions.values()
    ]
    return {other.kind for other in inside}.union(
        *(_computed(program, other) for other in inside if other.kind == "fusion")
    )


def _part(line: hlo.Instruction, fused: hlo.Computation | None) -> str:
    # What XLA has fused may have lost its own source.
    inside = reversed(fused.instructions.values()) if fused else []
    sources = (found.source for found in (line, *inside))
    return next((part_of(source) for source in sources if source), "no source")
