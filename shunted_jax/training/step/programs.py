"""What a run compiles: initialisation, the training step and the evaluation step on a mesh."""

import contextlib
import dataclasses
import functools
import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from shunted_jax.config import Config
from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.variables import initial_values
from shunted_jax.training.devices.sharding import batch_sharding, replicated, state_shardings
from shunted_jax.training.step.drawing import draw, quick_options
from shunted_jax.training.step.state import TrainState, state_of
from shunted_jax.training.step.steps import make_eval_step, make_train_step


@dataclasses.dataclass(frozen=True)
class Programs:
    """The functions of a run.

    Attributes:
        abstract_state: `jax.ShapeDtypeStruct` leaves with the shardings that every state has.
        init: key -> state, its arrays made straight in their shards.
        train_step: (state, batch, key) -> (state, metrics); the state given is used up.
        eval_step: (variables, batch) -> (metrics, rows), the same on every host.
    """

    abstract_state: TrainState
    init: Callable[[jax.Array], TrainState]
    train_step: Callable[..., Any]
    eval_step: Callable[..., Any]


def make_programs(
    model: ShuntedTransformer, tx: optax.GradientTransformation, config: Config, mesh: Mesh
) -> Programs:
    """Returns the functions of a run, with shardings in and out.

    Args:
        model: the network.
        tx: the optimizer.
        config: of the run.
        mesh: as `sharding.make_mesh` returns it.
    """
    to_state = partial(state_of, tx=tx, with_ema=config.ema_decay is not None)
    values = initial_values(model, jax.random.key(config.seed))
    shapes = jax.eval_shape(
        to_state, jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), values)
    )
    states = state_shardings(shapes, mesh)
    batches, everywhere = batch_sharding(mesh), replicated(mesh)
    abstract_state = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        states,
    )
    complete = jax.jit(
        to_state,
        out_shardings=states,
        donate_argnums=0,
        compiler_options=quick_options(mesh),
    )
    return Programs(
        abstract_state=abstract_state,
        init=lambda key: complete(draw(values, key, states.variables)),
        train_step=jax.jit(
            traced_under(mesh, make_train_step(model, tx, config)),
            in_shardings=(states, batches, everywhere),
            out_shardings=(states, everywhere),
            donate_argnums=0,
        ),
        eval_step=jax.jit(
            traced_under(mesh, make_eval_step(model, config)),
            in_shardings=(states.variables, batches),
            out_shardings=everywhere,
        ),
    )


def traced_under(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function`, traced so that kernels know which axes split the batch."""

    @functools.wraps(function)
    def of_arrays(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return of_arrays


def lower_train_step(programs: Programs, config: Config, mesh: Mesh) -> jax.stages.Lowered:
    """Returns the training step for the run's batches, ready to be compiled."""
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=replicated(mesh))
    with _no_garbage_collection():
        return programs.train_step.lower(
            programs.abstract_state, _abstract_batch(config, config.batch_size, mesh), key
        )


def lower_eval_step(programs: Programs, config: Config, mesh: Mesh) -> jax.stages.Lowered:
    """Returns the evaluation step for the run's batches, ready to be compiled."""
    batch = _abstract_batch(config, config.eval_batch_size, mesh) | _abstract_mask(config, mesh)
    with _no_garbage_collection():
        return programs.eval_step.lower(programs.abstract_state.variables, batch)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keeps Python from looking for garbage, of which tracing makes little among much else.

    A third of the time that it takes to trace a step of `shunted_b` went there, 3.7 of 11.4 s.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def compile_steps(programs: Programs, config: Config, mesh: Mesh) -> Programs:
    """Returns `programs` with both steps compiled, so that no step waits for the compiler later."""
    return dataclasses.replace(
        programs,
        train_step=lower_train_step(programs, config, mesh).compile(),
        eval_step=lower_eval_step(programs, config, mesh).compile(),
    )


def _abstract_batch(config: Config, batch_size: int, mesh: Mesh) -> dict[str, Any]:
    side, channels = config.data.image_size, len(config.data.mean)
    sharding = batch_sharding(mesh)
    return {
        "image": jax.ShapeDtypeStruct(
            (batch_size, side, side, channels), np.uint8, sharding=sharding
        ),
        "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32, sharding=sharding),
    }


def _abstract_mask(config: Config, mesh: Mesh) -> dict[str, Any]:
    shape = (config.eval_batch_size,)
    return {"mask": jax.ShapeDtypeStruct(shape, jnp.bool_, sharding=batch_sharding(mesh))}
