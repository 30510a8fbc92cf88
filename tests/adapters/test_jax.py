"""What JAX says where there is no cluster, in a process of its own."""

import os
import subprocess
import sys

from shunted_jax.adapters.jax import found_no_cluster
from tests.adapters.contract import seen_with

PROGRAM = """
import jax
from shunted_jax.adapters.jax import found_no_cluster
try:
    jax.distributed.initialize()
except ValueError as error:
    print(found_no_cluster(error), error)
"""

# By which the schedulers that JAX knows are told.
SCHEDULERS = ("SLURM", "OMPI", "PMIX", "KUBERNETES", "TPU", "CLOUD_TPU", "JAX_COORDINATOR")


@seen_with("jax", "0.12.0.1", "it raised a ValueError: coordinator_address should be defined")
def test_a_process_without_a_scheduler_is_alone():
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SCHEDULERS)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**kept, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("True "), done.stdout + done.stderr


def test_other_mistakes_are_not_taken_for_it():
    assert not found_no_cluster(ValueError("Number of processes must be defined."))
