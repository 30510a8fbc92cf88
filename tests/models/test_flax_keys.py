"""The contract with Flax: keys that it gives to modules are those that `flax_keys` tells.

Seen to hold with flax 0.12.8 and 0.12.12.
"""

import flax
import jax
import numpy as np
import pytest
from flax import linen as nn

from shunted_jax.models.flax_keys import key_and_number


class Inner(nn.Module):
    """Returns its key."""

    @nn.compact
    def __call__(self):
        return self.make_rng("dropout")


class Middle(nn.Module):
    """Returns the key of a module inside it."""

    @nn.compact
    def __call__(self):
        return Inner(name="inner")()


class Outer(nn.Module):
    """Returns keys of modules inside it, and what is told of them from outside."""

    @nn.compact
    def __call__(self):
        near, far = Inner(name="near"), Middle(name="far")
        told = [
            jax.random.fold_in(*key_and_number(*of))
            for of in (
                (self, "dropout", ("near",)),
                (near, "dropout", ()),
                (self, "dropout", ("far", "inner")),
                (far, "dropout", ("inner",)),
            )
        ]
        return (near(), far()), told


class Outermost(nn.Module):
    """Puts `Outer` into a module, as blocks lie in a stage."""

    @nn.compact
    def __call__(self):
        return Outer(name="stage_0")()


@pytest.mark.parametrize("separated", [False, True])
@pytest.mark.parametrize("stream", ["dropout", "params"])
def test_keys_are_those_that_flax_gives(stream, separated):
    before = flax.config.flax_fix_rng_separator
    flax.config.update("flax_fix_rng_separator", separated)
    try:
        (near, far), told = Outermost().apply({}, rngs={stream: jax.random.key(7)})
    finally:
        flax.config.update("flax_fix_rng_separator", before)
    given = [jax.random.key_data(key) for key in (near, near, far, far)]
    np.testing.assert_array_equal(given, [jax.random.key_data(key) for key in told])
    assert (given[0] != given[2]).any()
