"""Counting a model's cost needs no device."""

import os
import subprocess
import sys

from tests.models.test_shunted import GMACS, PARAMETERS

PROGRAM = """
from shunted_jax.models import create_model
from shunted_jax.models.cost import count_macs, count_parameters

model = create_model("shunted_t")
print(count_parameters(model), round(count_macs(model, 224) / 1e9, 2))
"""


def test_counting_starts_no_backend():
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "JAX_PLATFORMS": "none_that_there_is"},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == [str(PARAMETERS["shunted_t"]), str(GMACS["shunted_t"])], ran.stderr
