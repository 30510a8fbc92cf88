"""How much memory a compiled program needs."""

from typing import Any


def needed_bytes(analysis: Any) -> int:
    """Returns what it holds at once: arguments, results and what is between them.

    Args:
        analysis: `compiled.memory_analysis()`.
    """
    return (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )
