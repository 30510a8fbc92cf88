"""A function of a key, cut into a small program for each of its outputs.

Outputs that are computed alike have equal programs, to be called with keys of their own. A program
that was compiled for one output then serves the others.
"""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun


@dataclasses.dataclass(frozen=True)
class Program:
    """A pure function of a key and of further ones, into which numbers were folded.

    Attributes:
        identity: says all that is computed: programs are equal where these are.
        function: the function.
    """

    identity: Hashable
    function: Callable[..., jax.Array] = dataclasses.field(compare=False, repr=False)

    def __call__(self, *keys: jax.Array) -> jax.Array:
        """Returns the output."""
        return self.function(*keys)


@dataclasses.dataclass(frozen=True)
class Output:
    """One output; `output(key)` computes it, and nothing besides.

    Attributes:
        shape: of the array.
        dtype: of the array.
        program: computes it.
        numbers: what is folded into the key, each for a key of its own.
    """

    shape: tuple[int, ...]
    dtype: Any
    program: Program
    numbers: tuple[np.uint32, ...]

    def keys(self, key: jax.Array) -> list[jax.Array]:
        """Returns what to call the program with."""
        return [key, *(jax.random.fold_in(key, number) for number in self.numbers)]

    def __call__(self, key: jax.Array) -> jax.Array:
        """Returns what the whole function would, within rounding."""
        return self.program(*self.keys(key))


def cut(function: Callable[[jax.Array], Any], key: jax.Array) -> Any:
    """Traces `function`, and returns an `Output` in the place of each array that it returns.

    Args:
        function: key -> a tree of arrays.
        key: of the kind that outputs will be computed with; its value does not matter.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(key)
    trace = _Trace(closed)
    outputs = [
        Output(leaf.shape, leaf.dtype, *trace.computing(outvar))
        for leaf, outvar in zip(jax.tree.leaves(shapes), closed.jaxpr.outvars, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


class _Trace:
    """What a function computes, equation by equation."""

    def __init__(self, closed: ClosedJaxpr):
        (key,) = closed.jaxpr.invars
        self._jaxpr, self._key, self._constants = closed.jaxpr, key, tuple(closed.consts)
        self._inputs = [*closed.jaxpr.constvars, key]
        # Programs hold their constants: no other object can come to have the same id.
        self._names = {key: ("key", key.aval)}
        for var, constant in zip(closed.jaxpr.constvars, self._constants, strict=True):
            self._names[var] = ("constant", id(constant))
        self._makers = {
            var: (position, equation)
            for position, equation in enumerate(closed.jaxpr.eqns)
            for var in equation.outvars
        }

    def computing(self, outvar: Var | Literal) -> tuple[Program, tuple[np.uint32, ...]]:
        """Returns what computes an output, and the numbers that it folds into the key."""
        folds, equations = self._needed_for(outvar)
        keys = [equation.outvars[0] for equation in folds]
        jaxpr = self._jaxpr.replace(
            constvars=[],
            invars=[*self._inputs, *keys],
            outvars=[outvar],
            eqns=equations,
            effects=frozenset().union(*(equation.effects for equation in equations)),
        )
        evaluate, constants = jaxpr_as_fun(ClosedJaxpr(jaxpr, [])), self._constants
        program = Program(
            identity=self._identity(keys, equations, outvar),
            function=lambda *keys: evaluate(*constants, *keys)[0],
        )
        return program, tuple(np.uint32(equation.invars[1].val) for equation in folds)

    def _needed_for(self, outvar: Var | Literal) -> tuple[list[JaxprEqn], list[JaxprEqn]]:
        """Returns the equations that fold numbers into the key, and those that come after."""
        folds, others, to_do = {}, {}, [outvar]
        while to_do:
            var = to_do.pop()
            if isinstance(var, Literal) or var in self._inputs:
                continue
            position, equation = self._makers[var]
            if self._folds_a_number(equation):
                folds[position] = equation
            elif position not in others:
                others[position] = equation
                to_do += equation.invars
        return [folds[at] for at in sorted(folds)], [others[at] for at in sorted(others)]

    def _folds_a_number(self, equation: JaxprEqn) -> bool:
        # Flax makes a variable's key in this way. Under another name in a JAX to come, it would be
        # a step of the program like any other: right, but no two programs would be equal.
        return (
            equation.primitive.name == "random_fold_in"
            and equation.invars[0] is self._key
            and isinstance(equation.invars[1], Literal)
        )

    def _identity(
        self, keys: list[Var], equations: list[JaxprEqn], outvar: Var | Literal
    ) -> Hashable:
        """Returns all that is computed, in names that are the same in each trace."""
        names = self._names | {var: ("folded", place, var.aval) for place, var in enumerate(keys)}

        def name(atom: Var | Literal) -> Hashable:
            # By their bytes, 0 and -0 differ.
            is_literal = isinstance(atom, Literal)
            return (atom.aval, np.asarray(atom.val).tobytes()) if is_literal else names[atom]

        said = []
        for equation in equations:
            operands = tuple(map(name, equation.invars))
            # JAX sees to it that options can be compared; a function is equal to itself alone.
            options = tuple(sorted(equation.params.items()))
            for place, var in enumerate(equation.outvars):
                names[var] = ("made", len(said), place)
            said.append((equation.primitive, operands, options))
        return (*said, name(outvar))
