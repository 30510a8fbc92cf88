"""Compiling is most of what the small tests do; without optimisation it takes half the time."""

from functools import partial

import jax

quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
