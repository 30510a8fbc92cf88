"""Initial values: each variable starts as its own module says, drawn alone as in `model.init`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util
from flax.linen.initializers import constant, normal

from shunted_jax.models.variables import (
    abstract_variables,
    differing_shapes,
    initial_values,
    with_other_head,
)
from tests.support.quick import quick_jit

TABLE = np.arange(4, dtype=np.float32)


class Block(nn.Module):
    """A block with all that a variable may start from."""

    @nn.compact
    def __call__(self, x):
        dim = x.shape[-1]
        gamma = self.param("gamma", constant(1e-4), (dim,))
        self.param("minus_zero", constant(-0.0), (dim,))
        self.param("zero", constant(0.0), (dim,))
        self.param("temperature", lambda key: jnp.exp(jax.random.uniform(key, (2,))))
        self.param("own_program", lambda key: jax.jit(lambda k: jax.random.bits(k, (2,)) % 7)(key))
        self.param("first", normal(), (dim,), jnp.bfloat16)
        self.param("second", normal(), (dim,), jnp.bfloat16)
        self.param("both", lambda key: {"left": normal()(key, (dim,)), "right": TABLE})
        self.variable("buffers", "order", self._order, dim)
        self.variable("buffers", "seen", lambda: jnp.mean(x) + gamma.sum())
        self.variable("buffers", "count", jnp.zeros, (), jnp.int32)
        return nn.Dense(dim, kernel_init=constant(3.0))(x) * gamma + 1

    def _order(self, dim):
        from_first, from_second = self.make_rng("params"), self.make_rng("params")
        return jax.random.permutation(from_first, dim) + jax.random.randint(from_second, (), 0, 9)


class Stage(nn.Module):
    """Two equal blocks."""

    @nn.compact
    def __call__(self, x):
        return Block(name="blocks_1")(Block(name="blocks_0")(x))


class Network(nn.Module):
    """A stage between other modules."""

    num_classes: int = 5
    min_image_size: int = 4
    in_channels: int = 3

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(4, (2, 2))(images)
        x = nn.BatchNorm(use_running_average=True)(x)
        x = Stage(name="stage")(x)
        return nn.Dense(self.num_classes, bias_init=constant(-4.6), name="head")(x.mean((1, 2)))


MODEL = Network()
IMAGES = jnp.zeros((1, 4, 4, 3))
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def expected():
    """Returns the variables that Flax draws with `KEY`."""
    return quick_jit(MODEL.init)(KEY, IMAGES)


def test_values_are_those_of_init(expected):
    values = initial_values(MODEL, KEY)
    found = quick_jit(lambda key: jax.tree.map(lambda value: value(key), values))(KEY)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert set(found) == {"params", "batch_stats", "buffers"}
    for value, leaf in zip(jax.tree.leaves(values), jax.tree.leaves(expected), strict=True):
        assert (value.shape, value.dtype) == (leaf.shape, leaf.dtype)
    block = found["params"]["stage"]["blocks_1"]
    np.testing.assert_array_equal(block["gamma"], np.full(4, 1e-4, np.float32))
    np.testing.assert_array_equal(block["Dense_0"]["kernel"], np.full((4, 4), 3, np.float32))
    np.testing.assert_array_equal(np.signbit(block["minus_zero"]), True)
    np.testing.assert_array_equal(np.signbit(block["zero"]), False)
    np.testing.assert_array_equal(found["params"]["head"]["bias"], np.full(5, -4.6, np.float32))


@pytest.mark.parametrize("key", [jax.random.key(3, impl="rbg"), jax.random.PRNGKey(3)])
def test_keys_of_other_kinds(key):
    def block(variables):
        return variables["params"]["stage"]["blocks_1"]

    values = block(initial_values(MODEL, key))
    found, expected = quick_jit(
        lambda key: (
            jax.tree.map(lambda value: value(key), values),
            block(MODEL.init(key, IMAGES)),
        )
    )(key)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_variables_that_start_alike_share_a_program():
    values = initial_values(MODEL, jax.random.key(0))
    leaves = traverse_util.flatten_dict(values)
    one, other = (
        {at[3:]: value for at, value in leaves.items() if at[:3] == ("params", "stage", block)}
        for block in ("blocks_0", "blocks_1")
    )
    alone = {("own_program",)}  # a function of its own in each block
    assert {at for at in one if one[at].program != other[at].program} == alone
    drawn = {at for at in one if one[at].numbers != other[at].numbers}
    assert drawn == {("first",), ("second",), ("temperature",), ("own_program",), ("both", "left")}
    assert one["first",].program == one["second",].program
    assert one["first",].numbers != one["second",].numbers
    assert one["zero",].program != one["minus_zero",].program
    order = leaves["buffers", "stage", "blocks_0", "order"]
    assert len(order.numbers) == 2


def test_shapes_and_what_differs_in_them(expected):
    shapes, expected = abstract_variables(MODEL), traverse_util.flatten_dict(expected)
    assert {at: (s.shape, s.dtype) for at, s in shapes.items()} == {
        at: (leaf.shape, leaf.dtype) for at, leaf in expected.items()
    }
    assert differing_shapes(expected, shapes) == []
    mean = ("batch_stats", "BatchNorm_0", "mean")
    other = {at: leaf for at, leaf in expected.items() if at != mean}
    other["params", "head", "bias"] = jnp.zeros(7)
    other["params", "more"] = jnp.zeros(())
    assert differing_shapes(other, shapes) == [
        ("batch_stats/BatchNorm_0/mean", "nothing", (4,)),
        ("params/head/bias", (7,), (5,)),
        ("params/more", (), "nothing"),
    ]


def test_a_new_head_is_drawn_by_its_own_initialiser_and_the_key_given(expected):
    leaves, wider = traverse_util.flatten_dict(expected), MODEL.clone(num_classes=7)
    init_head = quick_jit(lambda key: wider.init(key, IMAGES)["params"]["head"])
    for key in (None, jax.random.key(5)):
        with pytest.warns(UserWarning, match="here has a head of 5 classes, and num_classes is 7"):
            found = with_other_head(leaves, wider, 5, "here", key)
        for name, leaf in init_head(jax.random.key(0) if key is None else key).items():
            np.testing.assert_array_equal(found.pop(("params", "head", name)), leaf)
        assert found == {at: leaf for at, leaf in leaves.items() if at[1] != "head"}
    assert with_other_head(leaves, MODEL.clone(num_classes=0), 5, "here") == found
