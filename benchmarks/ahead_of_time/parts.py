"""Which part of the network an instruction of a compiled program comes from."""

import re


def part_of(source: str) -> str:
    """Returns the part by the path of modules: "stage 1, mlp, backward".

    Parts are the stem, each stage's norms, attention, feed-forward and embedding, each forward or
    backward, and the rest: the head, the loss, the optimizer. Of a program of one block, they are
    the block's.

    Args:
        source: as `Instruction.source` gives it, not empty.
    """
    direction = "backward" if "transpose(" in source else "forward"
    if found := re.search(r"(?:stages_(\d)/blocks_\d+|\(block\)+)/(\w+)", source):
        where = f"stage {int(found[1]) + 1}" if found[1] else "block"
        part = found[2] if found[2] in ("attention", "mlp") else "norms and sums"
        return f"{where}, {part}, {direction}"
    if found := re.search(r"stages_(\d)/", source):
        return f"stage {int(found[1]) + 1}, embedding and norm, {direction}"
    return f"stem, {direction}" if "/stem" in source else "the rest"
