"""The feed-forward's kernels compute the plain one: values, gradients, on one device and on eight.

The kernels run in Pallas's interpreter here. That they compile for a TPU is checked by
tests/benchmarks/test_tpu.py, where libtpu is installed.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from shunted_jax.config import MeshConfig
from shunted_jax.errors import UserError
from shunted_jax.models.mlp import DetailFeedForward
from shunted_jax.models.numerics import Numerics
from shunted_jax.ops import pallas
from shunted_jax.ops.pallas import limits
from shunted_jax.ops.pallas.feed_forward import batch_tile, call_kernels
from shunted_jax.training.devices.sharding import BATCH_SPEC, make_mesh
from shunted_jax.training.step.programs import traced_under
from tests.support.quick import quick_jit

PLAIN = DetailFeedForward(256)
KERNELS = DetailFeedForward(256, numerics=Numerics(jnp.bfloat16, compute="pallas"))


@pytest.fixture(autouse=True)
def interpreted():
    """Runs the kernels in the interpreter."""
    with pallas.interpreted():
        yield


def random_arguments(batch, height, width, dim=8):
    """Returns a map, parameters none of which is zero, and a gradient of the output."""
    rng = np.random.default_rng(0)
    shape = (batch, height, width, dim)
    x, dout = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2))
    shapes = jax.eval_shape(PLAIN.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda s: jnp.asarray(0.3 * rng.standard_normal(s.shape)), shapes)
    return x, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params), dout


def both_ways(function, x, params, dout):
    """Returns the output and the gradients with respect to the map and the parameters."""
    out, pullback = jax.vjp(function, x, params)
    return out, *pullback(dout.astype(out.dtype))


def of_module(module):
    return lambda x, params: module.apply({"params": params}, x, train=True)


def cosine(ours, theirs):
    ours, theirs = (np.asarray(a, np.float64).ravel() for a in (ours, theirs))
    return ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (1, 3), (4, 9)])
def test_float32_is_the_plain_form(height, width):
    arguments = random_arguments(16, height, width)  # two tiles of two chunks
    expected = quick_jit(lambda *a: both_ways(of_module(PLAIN), *a))(*arguments)
    ours = quick_jit(lambda *a: both_ways(lambda x, p: call_kernels(8, True, x, p), *a))(*arguments)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * np.abs(b).max()),
        ours,
        expected,
    )


def test_bfloat16_is_nearer_to_float32_than_the_plain_form_is():
    x, params, dout = random_arguments(8, 7, 6)
    expected = quick_jit(lambda *a: both_ways(of_module(PLAIN), *a))(x, params, dout)
    x = x.astype(jnp.bfloat16)
    ours, plain = (
        quick_jit(lambda *a, m=module: both_ways(of_module(m), *a))(x, params, dout)
        for module in (KERNELS, DetailFeedForward(256, numerics=Numerics(jnp.bfloat16)))
    )
    assert ours[0].dtype == ours[1].dtype == jnp.bfloat16
    distances = [
        jax.tree.leaves(jax.tree.map(lambda a, b: 1 - cosine(a, b), results, expected))
        for results in (ours, plain)
    ]
    assert max(distances[0]) < 2e-5
    assert all(near <= far for near, far in zip(*distances, strict=True))


def test_eight_devices_give_what_one_does():
    x, params, dout = random_arguments(64, 2, 3)
    x = x.astype(jnp.bfloat16)

    def program(*arguments):
        return both_ways(of_module(KERNELS), *arguments)

    expected = quick_jit(program)(x, params, dout)
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    maps, everywhere = NamedSharding(mesh, BATCH_SPEC), NamedSharding(mesh, P())
    sharded = quick_jit(
        traced_under(mesh, program),
        in_shardings=(maps, everywhere, maps),
        out_shardings=(maps, maps, everywhere),
    )
    compiled = sharded.lower(x, params, dout).compile()
    assert "all-gather" not in compiled.as_text()
    ours = compiled(*jax.device_put((x, params, dout), (maps, everywhere, maps)))
    # Matrix products of fewer images add up in another order: a bfloat16 may round the other way.
    for a, b in zip(ours[:2], expected[:2], strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=2**-8 * np.abs(b).max())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * np.abs(b).max()),
        ours[2],
        expected[2],
    )


def test_a_program_for_a_tpu_holds_a_kernel_each_way():
    x = jax.ShapeDtypeStruct((16, 5, 3, 8), jnp.bfloat16)
    params = jax.eval_shape(KERNELS.init, jax.random.key(0), x)["params"]
    program = jax.jit(
        jax.value_and_grad(lambda p, x: jnp.sum(of_module(KERNELS)(x, p).astype(jnp.float32)))
    )
    with not_interpreted():
        traced = program.trace(params, x)
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("@tpu_custom_call") == 2


@contextlib.contextmanager
def not_interpreted():
    token = limits._interpreter.set(False)
    try:
        yield
    finally:
        limits._interpreter.reset(token)


@pytest.mark.parametrize(
    ("changed", "shape", "message"),
    [
        ({"numerics": Numerics(compute="pallas")}, (16, 5, 3, 8), "float32, and .* bfloat16"),
        ({"drop_rate": 0.1}, (16, 5, 3, 8), "drop_rate is 0.1"),
        ({"hidden_dim": 192}, (16, 5, 3, 8), "192 channels wide, and must be a multiple of 128"),
        ({}, (12, 5, 3, 8), "a device has 12 images, and must have a multiple of 8"),
        ({}, (8, 96, 96, 64), "96 x 96 x 64 .* takes [0-9]+ MiB on the chip, and 56 MiB"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(changed, shape, message):
    module = KERNELS.clone(**changed)
    x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    with pytest.raises(UserError, match=f"compute='pallas' cannot apply: .*{message}"):
        jax.eval_shape(lambda v, x: module.apply(v, x, train=True), variables, x)


def test_tiles():
    def tile(batch, side, dim, hidden_dim=2048):
        return batch_tile((batch, side, side, dim), hidden_dim)

    # The published stages at 224 pixels and 64 images.
    stages = ((56, 64, 512), (28, 128, 1024), (14, 256, 1024), (7, 512, 2048))
    assert [tile(64, *stage) for stage in stages] == [8, 16, 32, 64]
    assert tile(24, 7, 512) == 8
    with pytest.raises(UserError, match="MiB"):
        tile(64, 7, 1024, hidden_dim=4096)  # the weights' gradients do not fit


def test_tiles_are_of_a_devices_share():
    mesh = make_mesh(MeshConfig())
    tile = traced_under(mesh, lambda batch: batch_tile((batch, 7, 7, 512), 1024))
    assert tile(64) == 8
    with pytest.raises(UserError, match="a device has 9 images"):
        tile(72)


def test_it_can_be_rematerialised():
    x, params, dout = random_arguments(8, 2, 3)
    again = jax.checkpoint(of_module(KERNELS))
    ours = quick_jit(lambda *a: both_ways(again, *a))(x.astype(jnp.bfloat16), params, dout)
    expected = quick_jit(lambda *a: both_ways(of_module(PLAIN), *a))(x, params, dout)
    assert min(jax.tree.leaves(jax.tree.map(cosine, ours, expected))) > 0.9999
