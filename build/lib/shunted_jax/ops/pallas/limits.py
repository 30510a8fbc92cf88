"""Where the kernels cannot apply: what is said then, and what runs them elsewhere for tests."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NoReturn

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu
from jax.extend.core import Primitive
from jax.interpreters import mlir

from shunted_jax.errors import UserError
from shunted_jax.ops.dispatch import PLATFORMS
from shunted_jax.ops.partitioning import batch_devices

# What `pl.pallas_call` takes as `interpret`: False for the kernel itself, True or parameters of
# Pallas's TPU interpreter for an interpreter.
Interpreter = bool | pltpu.InterpretParams

_interpreter = contextvars.ContextVar("interpreter", default=False)


@contextlib.contextmanager
def interpreted(interpreter: Interpreter = True) -> Iterator[None]:
    """Has programs that are traced meanwhile run the kernels in an interpreter of Pallas's.

    It is slow and for tests: only a program for CPUs may hold it.

    Args:
        interpreter: which one. `True` turns a kernel into plain operations;
            `pltpu.InterpretParams` stands for the TPU's, which can look for races.
    """
    token = _interpreter.set(interpreter)
    try:
        yield
    finally:
        _interpreter.reset(token)


def current_interpreter() -> Interpreter:
    """Returns what a program being traced is to run its kernels in; False for a TPU."""
    return _interpreter.get()


def refuse(reason: str) -> NoReturn:
    """Raises UserError: the kernels cannot apply, for this reason."""
    raise UserError(f"compute='pallas' cannot apply: {reason}; take compute='auto'")


def refuse_dropout(name: str, rate: float, train: bool) -> None:
    """Raises UserError where a kernel would have to drop elements, which none does."""
    if train and rate > 0:
        refuse(f"{name} is {rate}, and the kernels drop nothing: set it to 0")


def check_dtype(dtype: jnp.dtype) -> None:
    """Raises UserError unless the kernels compute in `dtype`."""
    if dtype != jnp.bfloat16:
        name = jnp.dtype(dtype).name
        refuse(f"the computation is in {name}, and the kernels want bfloat16 (on a TPU)")


def check_shared(batch: int) -> None:
    """Raises UserError unless the devices get equally many of the batch's images."""
    if batch % batch_devices():
        refuse(f"{batch} images cannot be shared evenly by {batch_devices()} devices")


_only_where_it_runs = Primitive("only_where_it_runs")
_only_where_it_runs.multiple_results = True
_only_where_it_runs.def_abstract_eval(lambda *maps, interpreted: maps)


def only_where_it_runs(*maps: jax.Array, interpret: Interpreter) -> list[jax.Array]:
    """Returns a kernel's maps; lowering a program of them for another platform is refused.

    Raises:
        UserError: then. A kernel is a TPU's, and in an interpreter a CPU's.
    """
    return _only_where_it_runs.bind(*maps, interpreted=bool(interpret))


_on_its_own = jax.jit(_only_where_it_runs.bind, static_argnames="interpreted")
_only_where_it_runs.def_impl(_on_its_own)


def _lowering(platform: str):
    def rule(context, *maps, interpreted):
        if platform == ("cpu" if interpreted else "tpu"):
            return maps
        whose = "a CPU's in the interpreter" if interpreted else "a TPU's"
        taken = " and ".join(aval.str_short() for aval in context.avals_in)
        refuse(f"the kernels are {whose}, and one for {taken} is in a program for {platform!r}")

    return rule


for _platform in PLATFORMS:
    mlir.register_lowering(_only_where_it_runs, _lowering(_platform), platform=_platform)
