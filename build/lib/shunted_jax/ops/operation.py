"""A computation in several forms, and what JAX's transformations make of it.

The tangent, the gradients, the batched and the transposed computation are operations again, with a
form for each platform. So forward and reverse mode of any order and `vmap` all work, whether or not
a form's gradients are written out.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# Of arrays; returns an array, or a tuple of them.
Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to carry out a computation.

    Attributes:
        call: of arrays.
        gradients: of the same arrays and the result's cotangent; returns a cotangent for each
            array. None leaves them to autodiff.
        smooth: what autodiff goes through where it cannot go through `call`; None for `call`.
    """

    call: Function
    gradients: Function | None = None
    smooth: Function | None = None

    @property
    def differentiable(self) -> Function:
        """What tangents, and gradients that are not written out, are made from."""
        return self.smooth or self.call


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
            arrays, tangents = split(arrays_and_tangents, len(arrays_and_tangents) // 2)
            return jax.jvp(form.differentiable, arrays, tangents)[1]

        return Form(call)

    return _changed(
        operation, "tangent", change, num_results=operation.num_results, tangent_of=operation
    )


@functools.cache
def gradients(operation: Operation, num_arrays: int) -> Operation:
    """Returns (arrays, the results' cotangents) -> the arrays' cotangents."""

    def change(form: Form) -> Form:
        def call(*arrays_and_cotangents):
            arrays, cotangents = split(arrays_and_cotangents, num_arrays)
            _, pull_back = jax.vjp(lambda *arrays: as_tuple(form.differentiable(*arrays)), *arrays)
            return pull_back(cotangents)

        return Form(form.gradients or call, smooth=form.smooth and call)

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

        smooth = form.smooth and jax.vmap(form.smooth, in_axes)
        return Form(jax.vmap(form.call, in_axes), form.gradients and written_out, smooth)

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
            arrays, cotangents = split(arrays_and_cotangents, linear.count(None))

            def of_linear(*values):
                known, given = iter(arrays), iter(values)
                inside = (next(given if at else known) for at in linear)
                return as_tuple(form.differentiable(*inside))

            zeros = (jnp.zeros(shape.shape, shape.dtype) for shape in linear if shape)
            _, pull_back = jax.vjp(of_linear, *zeros)
            return pull_back(cotangents)

        return Form(call)

    return _changed(operation, "transposed", change, num_results=len(linear) - linear.count(None))


def split(arrays: Sequence, first: int) -> tuple[Sequence, Sequence]:
    """Returns the first arrays, so many, and the others."""
    return arrays[:first], arrays[first:]


def as_tuple(results: Any) -> tuple[jax.Array, ...]:
    """Returns what a function returned as a tuple."""
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)
