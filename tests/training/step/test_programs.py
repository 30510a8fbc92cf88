"""A run's programs where nothing is to be compiled."""

import jax

from shunted_jax.training.step.programs import Programs, compile_steps


def test_with_jit_switched_off_steps_stay_functions():
    # JAX refuses to compile ahead of time then.
    programs = Programs(*[None] * 6)
    with jax.disable_jit():
        assert compile_steps(programs) is programs
