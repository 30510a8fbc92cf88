"""Matplotlib where a notebook's backend is named, and what it takes text for."""

import importlib.util
import os
import subprocess
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from shunted_jax.adapters.matplotlib import plain_text, png_of
from tests.adapters.contract import error_of, seen_with

VERSION = "3.11.2"

PROGRAM = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("adapter", sys.argv[1])
adapter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(adapter)
figure = adapter.Figure()
figure.suptitle("drawn")
assert adapter.png_of(figure).startswith(b"\\x89PNG")
import matplotlib
print(os.environ["MPLBACKEND"], matplotlib.rcParams["backend"] == os.environ["MPLBACKEND"])
"""


NOTEBOOK = "module://matplotlib_inline.backend_inline"
HAS_NOTEBOOK = importlib.util.find_spec("matplotlib_inline") is not None


@pytest.mark.parametrize(("backend", "taken"), [(NOTEBOOK, HAS_NOTEBOOK), ("svg", True)])
def test_a_backend_that_is_not_there_does_not_matter(backend, taken):
    adapter = os.path.join(os.path.dirname(png_of.__code__.co_filename), "matplotlib.py")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, adapter],
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{backend} {taken}\n", "")


@seen_with("matplotlib", VERSION, "text between two dollar signs was a formula, and could be wrong")
def test_text_is_a_formula_unless_told_otherwise():
    def draw():
        figure = Figure()
        figure.suptitle("$\\frac{$")
        return png_of(figure)

    assert isinstance(error_of(draw), ValueError)
    with plain_text():
        assert draw().startswith(b"\x89PNG")
    assert matplotlib.rcParams["text.parse_math"]
