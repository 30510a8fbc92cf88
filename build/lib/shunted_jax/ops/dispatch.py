"""Which form of a computation runs: the plain one, or what a platform has better.

A program holds an `Operation` as a single step until it is lowered. Only then is a form traced, the
one for the platform that the program is lowered for: this need not be the process's own, and a
program compiled on a CPU for a TPU holds the TPU's form.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from shunted_jax.adapters.jax import lower_with_devices
from shunted_jax.ops.operation import (
    Function,
    Operation,
    as_tuple,
    batched,
    gradients,
    split,
    tangent,
    transposed,
)

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def run(operation: Operation, *arrays: jax.Array, compute: str) -> jax.Array:
    """Returns the result of an operation.

    Args:
        operation: what to compute.
        *arrays: its arguments.
        compute: "reference" calls the plain function, which leaves no step behind; anything else
            takes the platform's form.
    """
    if compute == "reference":
        return operation.reference(*arrays)
    (result,) = _bind(operation, arrays)
    return result


# JAX's side: one primitive, by the rules that its documentation gives for primitives.
_operation = Primitive("operation")
_operation.multiple_results = True
lower_with_devices(_operation)  # a form may call what wants them


def _bind(operation: Operation, arrays: Sequence[Any]) -> list[jax.Array]:
    # A form may ask which devices share the batch, and is traced where nobody knows any more.
    mesh = jax.sharding.get_abstract_mesh()
    return _operation.bind(*_varying_alike(arrays), operation=operation, mesh=mesh)


def _varying_alike(arrays: Sequence[Any]) -> list[Any]:
    """Returns the arrays as `jax.shard_map` types them: all different on devices where one is.

    What is the same on all devices has then the sum of their cotangents, which a form whose
    gradients are written out knows nothing of.
    """
    axes = [_varying_axes(x) for x in arrays]
    union = frozenset().union(*axes)
    return [
        jax.lax.pcast(x, tuple(union - own), to="varying") if union - own else x
        for x, own in zip(arrays, axes, strict=True)
    ]


def _varying_axes(x: Any) -> frozenset[str]:
    aval = jax.typeof(x)
    by_kind = getattr(aval, "manual_axis_type", None)  # jax 0.10.2 has it, others have `vma`
    return by_kind.varying if by_kind is not None else getattr(aval, "vma", frozenset())


@functools.cache
def _program(function: Function) -> Function:
    """Returns `function` as a program of its own, which is traced once for all alike."""
    return jax.jit(lambda *arrays: as_tuple(function(*arrays)))


@functools.cache
def _impl(operation: Operation) -> Function:
    return jax.jit(lambda *arrays: _bind(operation, arrays))


@_operation.def_impl
def _run(*arrays, operation, mesh):
    del mesh
    return _impl(operation)(*arrays)


@_operation.def_abstract_eval
def _shapes(*arrays, operation, mesh):
    del mesh
    return _program(operation.reference).trace(*arrays).jaxpr.out_avals


def _jvp(primals, tangents, *, operation, mesh):
    del mesh
    tangents = [ad.instantiate_zeros(dx) for dx in tangents]
    return _bind(operation, primals), _bind(tangent(operation), (*primals, *tangents))


def _transpose(cotangents, *arrays, operation, mesh):
    del mesh
    cotangents = [ad.instantiate_zeros(dx) for dx in cotangents]
    is_linear = [ad.is_undefined_primal(x) for x in arrays]
    known = [x for x, linear in zip(arrays, is_linear, strict=True) if not linear]
    if operation.tangent_of is not None and not any(is_linear[: len(arrays) // 2]):
        # Its gradients may be written out.
        arrays, _ = split(arrays, len(arrays) // 2)
        op = gradients(operation.tangent_of, len(arrays))
        found = [None] * len(arrays) + _bind(op, (*arrays, *cotangents))
        return [dx if linear else None for dx, linear in zip(found, is_linear, strict=True)]
    shapes = tuple(
        jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) if linear else None
        for x, linear in zip(arrays, is_linear, strict=True)
    )
    found = iter(_bind(transposed(operation, shapes), (*known, *cotangents)))
    return [next(found) if linear else None for linear in is_linear]


def _batch(arrays, axes, *, operation, mesh):
    del mesh
    in_front = [
        x if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(arrays, axes, strict=True)
    ]
    in_axes = tuple(None if axis is None else 0 for axis in axes)
    return _bind(batched(operation, in_axes), in_front), [0] * operation.num_results


ad.primitive_jvps[_operation] = _jvp
ad.primitive_transposes[_operation] = _transpose
batching.primitive_batchers[_operation] = _batch


def _lowering(platform: str | None) -> Callable[..., Any]:
    def traced(*arrays, operation, mesh):
        form = operation.form(platform)
        with jax.sharding.use_abstract_mesh(mesh):
            return _program(form.call)(*arrays)

    return mlir.lower_fun(traced, multiple_results=True)


mlir.register_lowering(_operation, _lowering(None))
for _platform in PLATFORMS:
    mlir.register_lowering(_operation, _lowering(_platform), platform=_platform)
