"""The fused attention is the plain one: values, gradients, on one device and on eight.

As in test_feed_forward.py, the kernels run in Pallas's interpreter.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from shunted_jax.config import MeshConfig
from shunted_jax.models.attention import Attend, ShuntedSelfAttention
from shunted_jax.ops.pallas.attention import is_fusible
from shunted_jax.training.devices.sharding import BATCH_SPEC, make_mesh
from shunted_jax.training.step.programs import traced_under
from tests.ops.pallas.test_feed_forward import both_ways, cosine
from tests.support.quick import quick_jit

HEADS, CHANNELS = 2, 32


def random_maps(batch, queries, keys, dtype=jnp.bfloat16):
    """Returns maps of queries, keys, values and a gradient of the output."""
    rng = np.random.default_rng(0)
    sides = (queries, keys, keys, queries)
    return [jnp.asarray(rng.standard_normal((batch, *s, CHANNELS)), dtype) for s in sides]


def attention(form, q, k, v, dout):
    """Returns the output and the gradients with respect to queries, keys and values."""
    attend = Attend(HEADS, form=form)
    out, pullback = jax.vjp(lambda q, k, v: attend.apply({}, q, k, v, train=True), q, k, v)
    return out, *pullback(dout.astype(out.dtype))


@pytest.mark.parametrize(("queries", "keys"), [((4, 5), (2, 3)), ((3, 3), (3, 3))])
def test_bfloat16_is_as_near_to_float32_as_the_plain_form_is(queries, keys):
    maps = random_maps(2, queries, keys)
    expected = attention("plain", *(array.astype(jnp.float32) for array in maps))
    ours, plain = (
        quick_jit(lambda *a, f=form: attention(f, *a))(*maps) for form in ("fused", "plain")
    )
    for near, far, exact in zip(ours, plain, expected, strict=True):
        assert near.dtype == jnp.bfloat16
        assert near.shape == exact.shape
        assert 1 - cosine(near, exact) < min(2e-5, 1.5 * (1 - cosine(far, exact)))


def test_large_scores_stay_finite():
    q, k, v, dout = random_maps(1, (2, 2), (2, 2))
    for array in quick_jit(lambda *a: attention("fused", *a))(1e3 * q, 1e3 * k, v, dout):
        assert np.isfinite(np.asarray(array, np.float32)).all()


def test_eight_devices_give_what_one_does():
    maps = random_maps(8, (3, 4), (2, 2))

    def program(*arguments):
        return attention("fused", *arguments)

    expected = quick_jit(program)(*maps)
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    sharding = NamedSharding(mesh, BATCH_SPEC)
    sharded = quick_jit(traced_under(mesh, program), in_shardings=sharding, out_shardings=sharding)
    compiled = sharded.lower(*maps).compile()
    assert "all-gather" not in compiled.as_text()
    for ours, theirs in zip(compiled(*jax.device_put(maps, sharding)), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(ours, np.float32), np.asarray(theirs, np.float32))


@pytest.mark.parametrize("sr_ratio", [1, 2])
def test_in_its_module(sr_ratio):
    x = random_maps(1, (4, 4), (1, 1))[0]
    plain = ShuntedSelfAttention(HEADS, sr_ratio, dtype=jnp.bfloat16)
    variables = plain.init(jax.random.key(0), x)

    def results(module):
        return both_ways(
            lambda x, params: module.apply({"params": params}, x), x, variables["params"], x
        )

    ours, theirs = (
        quick_jit(lambda m=m: results(m))() for m in (plain.clone(attend_form="fused"), plain)
    )
    # Biases of keys change nothing, and their gradients are rounding.
    assert min(map(cosine, ours[:2], theirs[:2])) > 0.9999
    assert (
        min(jax.tree.leaves(jax.tree.map(cosine, *(r[2]["proj"] for r in (ours, theirs))))) > 0.9999
    )


def test_where_the_kernel_applies():
    def applies(queries, keys, channels, dtype=jnp.bfloat16):
        shapes = [jax.ShapeDtypeStruct((3, n, channels), dtype) for n in (queries, keys)]
        return is_fusible(*shapes, HEADS)

    assert applies(3136, 196, 64)
    assert not applies(3136, 196, 64, jnp.float32)
    assert not applies(16384, 1024, 64)  # 512 pixels: more weights than fit
    assert not applies(49, 49, 48)  # 24 channels a head
    # 3 images cannot be split over 8 devices.
    assert not traced_under(make_mesh(MeshConfig()), applies)(49, 49, 64)


def test_dropped_weights_are_left_to_the_plain_form():
    q, k, v, _ = random_maps(1, (2, 2), (2, 2))
    attend = Attend(HEADS, drop_rate=0.5, form="fused")
    key = {"dropout": jax.random.key(0)}
    training = jax.make_jaxpr(lambda *a: attend.apply({}, *a, train=True, rngs=key))(q, k, v)
    scoring = jax.make_jaxpr(lambda *a: attend.apply({}, *a))(q, k, v)
    assert "pallas_call" not in str(training)
    assert "pallas_call" in str(scoring)
