"""Where the kernels cannot apply: what is said then, and what runs them elsewhere for tests."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NoReturn

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

from shunted_jax.errors import UserError
from shunted_jax.ops.dispatch import PLATFORMS
from shunted_jax.ops.partitioning import batch_devices

_interpreting = contextvars.ContextVar("interpreting", default=False)


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Has programs that are traced meanwhile run the kernels in Pallas's interpreter.

    It runs on any platform and is slow: it is for tests.
    """
    token = _interpreting.set(True)
    try:
        yield
    finally:
        _interpreting.reset(token)


def is_interpreted() -> bool:
    """Returns whether a program being traced is to run its kernels in the interpreter."""
    return _interpreting.get()


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
        refuse(f"the computation is in {jnp.dtype(dtype).name}, and the kernels want bfloat16")


def check_shared(batch: int) -> None:
    """Raises UserError unless the devices get equally many of the batch's images."""
    if batch % batch_devices():
        refuse(f"{batch} images cannot be shared evenly by {batch_devices()} devices")


_only_on_tpu = Primitive("only_on_tpu")
_only_on_tpu.def_abstract_eval(lambda x: x)


def only_on_tpu(x: jax.Array) -> jax.Array:
    """Returns x; lowering a program of it raises UserError for whatever is not a TPU."""
    return x if is_interpreted() else _only_on_tpu.bind(x)


@_only_on_tpu.def_impl
def _run(x):
    return jax.jit(_only_on_tpu.bind)(x)


def _refuse_platform(platform: str):
    def rule(context, x):
        del context, x
        refuse(f"the kernels are a TPU's, and this program is for the platform {platform!r}")

    return rule


for _platform in PLATFORMS:
    if _platform != "tpu":
        mlir.register_lowering(_only_on_tpu, _refuse_platform(_platform), platform=_platform)
mlir.register_lowering(_only_on_tpu, lambda context, x: [x], platform="tpu")
