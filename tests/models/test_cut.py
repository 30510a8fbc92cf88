"""A function of a key, cut: each output is right, whatever it is computed from."""

import jax
import jax.numpy as jnp
import numpy as np

from shunted_jax.models.cut import cut

KEY = jax.random.key(11)
TABLE = np.arange(6, dtype=np.float32)


def test_outputs_that_are_hardly_computed():
    def function(key):
        drawn = jax.random.normal(key, (3,))
        return {"table": TABLE, "number": 0.5, "key": key, "twice": (drawn, drawn)}

    outputs = cut(function, KEY)
    np.testing.assert_array_equal(outputs["table"](KEY), TABLE)
    assert outputs["number"](KEY) == 0.5
    assert outputs["key"](KEY) == KEY
    expected = jax.random.normal(KEY, (3,))
    for output in outputs["twice"]:
        np.testing.assert_array_equal(output(KEY), expected)
        assert output.numbers == ()


def test_only_numbers_folded_into_the_key_itself_are_told_apart():
    def function(key):
        one, two = jax.random.fold_in(key, 1), jax.random.fold_in(key, 2)
        computed = jax.random.fold_in(key, jax.random.bits(one))
        return [jax.random.bits(k) for k in (one, two, jax.random.fold_in(two, 3), computed)]

    outputs, expected = cut(function, KEY), function(KEY)
    assert [output(KEY) for output in outputs] == expected
    assert [output.numbers for output in outputs] == [(1,), (2,), (2,), (1,)]
    one, two, further, computed = (output.program for output in outputs)
    assert one == two
    assert len({one, further, computed}) == 3


def test_numbers_that_look_alike_are_told_apart():
    def function(key):
        del key
        values = (0.0, -0.0, 0, False, jnp.nan, jnp.nan)
        return [jnp.full((2,), value) for value in values]

    zero, minus, integer, boolean, nan, other_nan = cut(function, KEY)
    assert len({zero.program, minus.program, integer.program, boolean.program}) == 4
    assert nan.program == other_nan.program
    assert np.signbit(minus(KEY)).all()
    assert (integer.dtype, boolean.dtype) == (jnp.int32, jnp.bool_)


def test_an_output_does_without_the_others():
    seen = []

    def function(key):
        heavy = jax.pure_callback(lambda: seen.append(1) or np.float32(2), jnp.float32(0))
        return {"light": jax.random.normal(key), "heavy": heavy}

    outputs = cut(function, KEY)
    assert outputs["light"](KEY) == jax.random.normal(KEY)
    assert seen == []
    assert outputs["heavy"](KEY) == 2
    assert seen == [1]
