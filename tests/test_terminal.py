"""What is printed where a terminal, or a file, takes text alone."""

import io
import sys

from shunted_jax.terminal import print_any_name


def test_a_name_that_is_no_text_is_printed(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8"))
    print_any_name()
    print("café", "caf\udce9", flush=True)
    assert written.getvalue().decode() == "café caf\\udce9\n"
