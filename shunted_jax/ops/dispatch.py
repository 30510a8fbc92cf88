"""Which form of a computation runs: the plain one, or what a platform has better.

An `Operation` is one computation with its forms. A program holds it as a single step until it is
lowered. Only then is a form traced, the one for the platform that the program is lowered for: this
need not be the process's own, and a program compiled on a CPU for a TPU holds the TPU's form.

What JAX makes of a step is a step again, with a form for each platform: `tangent`, `gradients`,
`batched`, `transposed`. So forward and reverse mode of any order, `vmap` and `jax.checkpoint` all
work, whether or not a form's gradients are written out.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

# Of arrays; returns an array, or a tuple of them.
Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to carry out a computation.

    Attributes:
        call: of arrays; autodiff can see through it.
        gradients: of the same arrays and the result's cotangent; returns a cotangent for each
            array. None leaves them to autodiff.
    """

    call: Function
    gradients: Function | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One computation in forms that agree in value and in gradients, to rounding.

    Attributes:
        name: for people.
        reference: plain JAX, without a custom derivative.
        forms: what takes its place, by platform.
        num_results: how many arrays it returns.
        tangent_of: the operation whose tangent it computes; None for others.
    """

    name: str
    reference: Function
    forms: Mapping[str, Form] = dataclasses.field(default_factory=dict)
    num_results: int = 1
    tangent_of: "Operation | None" = None

    def __call__(self, *arrays: jax.Array, compute: str) -> jax.Array:
        """Returns the result for `arrays`.

        Args:
            *arrays: the arguments.
            compute: "reference" calls the plain function, which leaves no step behind; anything
                else takes the platform's form.
        """
        if compute == "reference":
            return self.reference(*arrays)
        (result,) = _bind(self, arrays)
        return result

    def __repr__(self) -> str:
        return self.name

    def form(self, platform: str) -> Form:
        """Returns what runs on a platform."""
        return self.forms.get(platform) or Form(self.reference)


def _changed(
    operation: Operation, name: str, change: Callable[[Form], Form], **fields: Any
) -> Operation:
    forms = {platform: change(form) for platform, form in operation.forms.items()}
    plain = change(Form(operation.reference)).call
    return Operation(f"{name}_{operation.name}", plain, forms, **fields)


@functools.cache
def tangent(operation: Operation) -> Operation:
    """Returns (arrays, their tangents) -> the results' tangents."""

    def change(form: Form) -> Form:
        def call(*arrays_and_tangents):
            half = len(arrays_and_tangents) // 2
            arrays, tangents = arrays_and_tangents[:half], arrays_and_tangents[half:]
            return jax.jvp(form.call, arrays, tangents)[1]

        return Form(call)

    return _changed(
        operation, "tangent", change, num_results=operation.num_results, tangent_of=operation
    )


@functools.cache
def gradients(operation: Operation, num_arrays: int) -> Operation:
    """Returns (arrays, the results' cotangents) -> the arrays' cotangents."""

    def change(form: Form) -> Form:
        def call(*arrays_and_cotangents):
            arrays, cotangents = _split(arrays_and_cotangents, num_arrays)
            _, pull_back = jax.vjp(lambda *arrays: _as_tuple(form.call(*arrays)), *arrays)
            return pull_back(cotangents)

        return Form(form.gradients or call)

    return _changed(operation, "gradients", change, num_results=num_arrays)


@functools.cache
def batched(operation: Operation, in_axes: tuple[int | None, ...]) -> Operation:
    """Returns the operation over a further first axis of the arrays whose entry is 0."""

    def change(form: Form) -> Form:
        def written_out(*arrays_and_cotangents):
            cotangents = len(arrays_and_cotangents) - len(in_axes)
            each = jax.vmap(form.gradients, (*in_axes, *(0,) * cotangents))(*arrays_and_cotangents)
            pairs = zip(each, in_axes, strict=True)
            return tuple(jnp.sum(dx, axis=0) if axis is None else dx for dx, axis in pairs)

        return Form(jax.vmap(form.call, in_axes), form.gradients and written_out)

    return _changed(operation, "batched", change, num_results=operation.num_results)


@functools.cache
def transposed(operation: Operation, linear: tuple[jax.ShapeDtypeStruct | None, ...]) -> Operation:
    """Returns (the other arrays, the results' cotangents) -> the linear arguments' cotangents.

    Args:
        operation: linear in some arguments together.
        linear: their shapes; None in the place of the others.
    """

    def change(form: Form) -> Form:
        def call(*arrays_and_cotangents):
            arrays, cotangents = _split(arrays_and_cotangents, linear.count(None))

            def of_linear(*values):
                known, given = iter(arrays), iter(values)
                return _as_tuple(form.call(*(next(given if at else known) for at in linear)))

            zeros = (jnp.zeros(shape.shape, shape.dtype) for shape in linear if shape)
            _, pull_back = jax.vjp(of_linear, *zeros)
            return pull_back(cotangents)

        return Form(call)

    return _changed(operation, "transposed", change, num_results=len(linear) - linear.count(None))


def _split(arrays: tuple, first: int) -> tuple[tuple, tuple]:
    return arrays[:first], arrays[first:]


def _as_tuple(results: Any) -> tuple[jax.Array, ...]:
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


# JAX's side: one primitive, by the rules that its documentation gives for primitives.
_operation = Primitive("operation")
_operation.multiple_results = True


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
    return jax.jit(lambda *arrays: _as_tuple(function(*arrays)))


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
        arrays, _ = _split(arrays, len(arrays) // 2)
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
