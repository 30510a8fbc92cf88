"""Which layer each parameter belongs to, from the stem to the head: for fine-tuning's rates."""

from typing import Any

import jax


def layer_numbers(params: Any) -> Any:
    """Returns the number of each tensor's layer: the stem 0, each block one more, the head the top.

    A patch embedding counts with the block after it, a stage's norm with the block before it.

    Args:
        params: of a `ShuntedTransformer`; arrays or shapes.

    Returns:
        ints in the place of the tensors.
    """
    num_stages = sum(name.startswith("stages_") for name in params)
    depths = [
        sum(name.startswith("blocks_") for name in params[f"stages_{stage}"])
        for stage in range(num_stages)
    ]

    def number(path, _) -> int:
        names = [entry.key for entry in path]
        if names[0] == "stem":
            return 0
        if names[0] == "head":
            return sum(depths) + 1
        stage = int(names[0].removeprefix("stages_"))
        below = sum(depths[:stage])
        if names[1].startswith("blocks_"):
            return below + int(names[1].removeprefix("blocks_")) + 1
        return below + (1 if names[1] == "patch_embed" else depths[stage])

    return jax.tree.map_with_path(number, params)


def rate_factors(params: Any, decay: float) -> Any:
    """Returns what each tensor's learning rate is multiplied by: decay ** (layers above it)."""
    numbers = layer_numbers(params)
    top = max(jax.tree.leaves(numbers))
    return jax.tree.map(lambda number: decay ** (top - number), numbers)


def is_in_head(path: tuple[Any, ...]) -> bool:
    """Returns whether a parameter at this path, as JAX's tree functions give it, is the head's."""
    return path[0].key == "head"
