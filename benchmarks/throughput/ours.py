"""This project's network as a contestant."""

import jax
import jax.numpy as jnp

from benchmarks.memory import needed_bytes
from benchmarks.throughput.cases import Case
from benchmarks.throughput.contestants import Contestant
from benchmarks.throughput.inputs import CLASSES, draw
from benchmarks.throughput.kernels import profile
from shunted_jax.config import Config, OptimizerConfig
from shunted_jax.models import create_model
from shunted_jax.reporting.peaks import peak_flops
from shunted_jax.tasks import make_task
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.step.optimizer import make_optimizer
from shunted_jax.training.step.programs import make_programs
from shunted_jax.training.step.steps import make_update


def make(case: Case) -> Contestant:
    """Compiles the step of a case for the first device."""
    device = jax.devices()[0]
    on_gpu = device.platform == "gpu"
    # A GPU would take TF32 for float32, which the other side is not given either.
    precision = "highest" if case.dtype == "float32" else None
    config = Config(optimizer=OptimizerConfig(clip_norm=1.0))
    model = create_model(case.variant, dtype=jnp.dtype(case.dtype), precision=precision)
    tx, task = make_optimizer(config.optimizer, 1e-3), make_task(config, CLASSES)
    programs = make_programs(model, tx, task, make_mesh(config.mesh, [device]))
    state = programs.init(jax.random.key(0))
    images, labels = draw(case)
    if case.mode == "training":
        batch = jnp.asarray(images), jax.nn.one_hot(labels, CLASSES), jax.random.key(0)
        update = jax.jit(make_update(model, tx, task), donate_argnums=0)
        program = update.lower(state, *batch).compile()
    else:
        state = jax.tree.map(lambda leaf: leaf.astype(case.dtype), state.variables)
        batch = (jnp.asarray(images, case.dtype),)
        program = jax.jit(model.apply).lower(state, *batch).compile()
    results = None

    def step() -> None:
        nonlocal state, results
        results = program(state, *batch)
        if case.mode == "training":
            state = results[0]

    def wait() -> None:
        jax.block_until_ready(results)

    def of_steps(number: int) -> dict:
        return profile(step, wait, number, program.as_text())

    return Contestant(
        step,
        wait,
        on_gpu,
        device.device_kind,
        peak_flops(device),
        # The allocator's own peak holds what autotuning tried as well.
        lambda: needed_bytes(program.memory_analysis()) if on_gpu else None,
        of_steps,
    )
