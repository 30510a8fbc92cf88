"""What JAX says where there is no cluster, in a process of its own; how it lowers programs."""

import importlib.util
import os
import subprocess
import sys

import jax
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from shunted_jax.adapters.jax import (
    found_no_cluster,
    has_cudnn_attention,
    lower_with_devices,
    without_explicit_axes,
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


@seen_with("jax", "0.12.0.1", "types of arrays said how they are split, and could be changed")
@pytest.mark.devices(2)
def test_a_form_is_traced_without_explicit_axes():
    mesh = jax.make_mesh((2,), ("data",))
    images = jax.ShapeDtypeStruct((4, 6), "float32", sharding=NamedSharding(mesh, P("data")))
    primitive, seen = Primitive("typed"), []
    primitive.def_abstract_eval(lambda *arrays: arrays[0])

    def lowering(context, *arrays):
        seen.append(without_explicit_axes(context.avals_in, jax.sharding.AbstractMesh((), ())))
        return arrays[:1]

    mlir.register_lowering(primitive, lowering)
    jax.jit(primitive.bind).lower(images, jax.ShapeDtypeStruct((6,), "float32"))
    (((split, whole), found),) = seen
    assert AxisType.Explicit in images.sharding.mesh.axis_types
    assert set(split.sharding.mesh.axis_types) == {AxisType.Auto}
    assert (split.shape, split.dtype) == ((4, 6), "float32")
    assert whole.sharding.mesh.empty
    # Who asks for the mesh then still learns who shares the batch.
    assert dict(found.shape) == {"data": 2}


def test_cudnn_is_where_the_plugin_for_cuda_is():
    installed = [importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)]
    assert has_cudnn_attention() == any(installed)
