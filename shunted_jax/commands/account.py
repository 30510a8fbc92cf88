"""What a person is told of weights that were converted: a title, and a row for each fact."""

import json
import os

from shunted_jax.models import ShuntedTransformer


def table(title: str, rows: dict[str, str]) -> str:
    """Returns the lines of an account; a row without text is left out."""
    return "\n".join([title, *(f"  {name:<12}{text}" for name, text in rows.items() if text)])


def classes(model: ShuntedTransformer) -> str:
    """Returns how many classes a network has, in words if none."""
    return f"{model.num_classes:,}" if model.num_classes else "none: a backbone without a head"


def quoted(path: str | os.PathLike) -> str:
    """Returns a path as Python's code has it."""
    return json.dumps(os.fspath(path), ensure_ascii=False)
