"""What JAX says where there is no cluster, in a process of its own; lowering with devices."""

import importlib.util
import os
import subprocess
import sys

import jax
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir

from shunted_jax.adapters.jax import (
    found_no_cluster,
    has_cudnn_attention,
    lower_with_devices,
)
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


@pytest.mark.parametrize("asks", [False, True])
def test_a_program_is_lowered_for_devices_only_where_a_primitive_asks(asks):
    primitive, seen = Primitive("asking" if asks else "silent"), []
    primitive.def_abstract_eval(lambda x: x)

    def lowering(context, x):
        seen.append(context.module_context.axis_context.device_assignment)
        return [x]

    mlir.register_lowering(primitive, lowering)
    if asks:
        lower_with_devices(primitive)
    jax.jit(primitive.bind).lower(jax.ShapeDtypeStruct((2,), "float32"))
    assert seen == [(jax.devices()[0],) if asks else None]


def test_cudnn_is_where_the_plugin_for_cuda_is():
    installed = [importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)]
    assert has_cudnn_attention() == any(installed)
