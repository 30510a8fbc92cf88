"""What a run compiles: initialisation, the training step and the evaluation step on a mesh."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding

from shunted_jax.models.variables import initial_values
from shunted_jax.tasks import Task
from shunted_jax.training.devices.sharding import batch_sharding, replicated, state_shardings
from shunted_jax.training.step.drawing import draw, quick_options
from shunted_jax.training.step.state import TrainState, state_of
from shunted_jax.training.step.steps import make_eval_step, make_train_step


@dataclasses.dataclass(frozen=True)
class Programs:
    """The functions of a run.

    Attributes:
        abstract_state: `jax.ShapeDtypeStruct` leaves with the shardings that every state has.
        abstract_batch: the same of a batch to train on.
        abstract_eval_batch: the same of a batch to evaluate on.
        init: key -> state, its arrays made straight in their shards.
        train_step: (state, batch, key) -> (state, metrics); the state given is used up.
        eval_step: (variables, batch) -> the task's score of it, the same on every host.
    """

    abstract_state: TrainState
    abstract_batch: dict[str, jax.ShapeDtypeStruct]
    abstract_eval_batch: dict[str, jax.ShapeDtypeStruct]
    init: Callable[[jax.Array], TrainState]
    train_step: Callable[..., Any]
    eval_step: Callable[..., Any]


def make_programs(
    model: nn.Module, tx: optax.GradientTransformation, task: Task, mesh: Mesh
) -> Programs:
    """Returns the functions of a run, with shardings in and out.

    Args:
        model: the network.
        tx: the optimizer.
        task: what it is trained for.
        mesh: as `sharding.make_mesh` returns it.
    """
    config = task.config
    to_state = partial(state_of, tx=tx, with_ema=config.ema_decay is not None)
    values = initial_values(model, jax.random.key(config.seed))
    shapes = jax.eval_shape(
        to_state, jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), values)
    )
    states = state_shardings(shapes, mesh)
    batches, everywhere = batch_sharding(mesh), replicated(mesh)
    abstract_state = jax.tree.map(_placed, shapes, states)
    complete = jax.jit(
        to_state,
        out_shardings=states,
        donate_argnums=0,
        compiler_options=quick_options(mesh),
    )
    return Programs(
        abstract_state=abstract_state,
        abstract_batch=_all_placed(task.abstract_batch(), batches),
        abstract_eval_batch=_all_placed(task.abstract_eval_batch(), batches),
        init=lambda key: complete(draw(values, key, states.variables)),
        train_step=jax.jit(
            traced_under(mesh, make_train_step(model, tx, task)),
            in_shardings=(states, batches, everywhere),
            out_shardings=(states, everywhere),
            donate_argnums=0,
        ),
        eval_step=jax.jit(
            traced_under(mesh, make_eval_step(model, task)),
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


def _placed(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _all_placed(leaves: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda leaf: _placed(leaf, sharding), leaves)


def lower_train_step(programs: Programs) -> jax.stages.Lowered:
    """Returns the training step for the run's batches, ready to be compiled."""
    state, batch = programs.abstract_state, programs.abstract_batch
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=state.step.sharding)
    return programs.train_step.lower(state, batch, key)


def lower_eval_step(programs: Programs) -> jax.stages.Lowered:
    """Returns the evaluation step for the run's batches, ready to be compiled."""
    variables, batch = programs.abstract_state.variables, programs.abstract_eval_batch
    return programs.eval_step.lower(variables, batch)


def compile_steps(programs: Programs) -> Programs:
    """Returns `programs` with both steps compiled, so that no step waits for the compiler later."""
    return dataclasses.replace(
        programs,
        train_step=lower_train_step(programs).compile(),
        eval_step=lower_eval_step(programs).compile(),
    )
