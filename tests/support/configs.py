"""The configurations that come with this, as a program that is given their file gets them."""

import runpy
from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"


def load_config(name):
    """Returns what `configs/NAME.py` describes, still to be changed."""
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
