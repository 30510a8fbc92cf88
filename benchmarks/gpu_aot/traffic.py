"""The bytes that one kernel of a compiled GPU program moves.

It reads its operands and writes its results, each once at full size, whatever the caches hold. Of
an operand that a kernel takes only slices of, these count. So does the part alone of a result that
is an operand with a part replaced in place. A library's workspace does not count.
"""

from collections.abc import Iterator

from benchmarks.ahead_of_time import hlo

_SLICES = {"slice", "dynamic-slice", "gather"}
_REPLACEMENT = "dynamic-update-slice"


def moved(
    instruction: hlo.Instruction, computation: hlo.Computation, fused: hlo.Computation | None
) -> int:
    """Returns the bytes that a kernel reads and writes.

    Args:
        instruction: the kernel.
        computation: that it stands in.
        fused: what it computes where it is a fusion; None of others.
    """
    sizes = [computation.size(name) for name in instruction.operands]
    if fused:
        read = [_read_by_fusion(fused, index, whole) for index, whole in enumerate(sizes)]
        written = [_written(output, fused) for output in _outputs(fused)]
    else:
        read = [
            _read(instruction, position, whole, in_place=True)
            for position, whole in enumerate(sizes)
        ]
        written = [_written(instruction, computation)]
    return sum(read) + sum(written)


def _read_by_fusion(fused: hlo.Computation, index: int, whole: int) -> int:
    parameter, outputs = fused.parameter(index), _outputs(fused)
    read = whole * outputs.count(parameter)
    for use, position in _uses(fused, parameter):
        read += _read(use, position, whole, in_place=use in outputs)
    return min(read, whole)


def _read(use: hlo.Instruction, position: int, whole: int, in_place: bool) -> int:
    """Returns the bytes that an instruction needs of one of its operands."""
    if position == 0 and use.kind in _SLICES:
        return use.size
    if position == 0 and use.kind == _REPLACEMENT and in_place:
        return 0
    return whole


def _written(output: hlo.Instruction, computation: hlo.Computation) -> int:
    if output.kind == _REPLACEMENT:
        return computation.size(output.operands[1])
    results = output.results
    if output.kind == "custom-call" and len(results) > 1 and results[-1].dtype in ("s8", "u8"):
        results = results[:-1]  # the workspace
    if output.kind.endswith("-start"):  # gives its operands back, too
        results = results[sum(len(computation.arrays(name)) for name in output.operands) :]
    return sum(array.size for array in results)


def _outputs(fused: hlo.Computation) -> list[hlo.Instruction]:
    """Returns the instructions that give a fusion's results."""
    names = fused.root.operands if fused.root.kind == "tuple" else [fused.root.name]
    return [fused.behind_bitcasts(name) for name in names]


def _uses(
    fused: hlo.Computation, parameter: hlo.Instruction
) -> Iterator[tuple[hlo.Instruction, int]]:
    """Yields what takes a parameter, and as which of its operands."""
    for line in fused.instructions.values():
        if line.kind in ("bitcast", "tuple"):
            continue
        for position, name in enumerate(line.operands):
            if fused.behind_bitcasts(name) == parameter:
                yield line, position
