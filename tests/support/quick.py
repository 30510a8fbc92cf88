"""Compiling is most of what the small tests do; without optimisation it takes half the time."""

from functools import partial

import jax

from tests.support.platforms import PLATFORM

# What a GPU's compiler does with the same option has not been tried.
_OPTIONS = {"xla_backend_optimization_level": 0} if PLATFORM == "cpu" else None

quick_jit = partial(jax.jit, compiler_options=_OPTIONS)
