"""The attention's kernels compute the plain one: values, gradients, on one device and on eight.

As in test_feed_forward.py, the kernels run in Pallas's interpreter.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from jax.sharding import NamedSharding

from shunted_jax.config import MeshConfig
from shunted_jax.errors import UserError
from shunted_jax.models.attention import Attend, ShuntedSelfAttention
from shunted_jax.models.numerics import Numerics
from shunted_jax.ops import pallas
from shunted_jax.ops.attention import dot_product_attention
from shunted_jax.training.devices.sharding import BATCH_SPEC, make_mesh
from shunted_jax.training.step.programs import traced_under
from tests.ops.pallas.test_feed_forward import both_ways, cosine
from tests.support.quick import quick_jit

HEADS, D = 2, 16


@pytest.fixture(autouse=True)
def interpreted():
    """Runs the kernels in the interpreter."""
    with pallas.interpreted():
        yield


def random_tokens(batch, queries, keys, dtype=jnp.bfloat16):
    """Returns queries, keys, values and a gradient of the output."""
    rng = np.random.default_rng(0)
    counts = (queries, keys, keys, queries)
    return [jnp.asarray(rng.standard_normal((batch, n, HEADS, D)), dtype) for n in counts]


def both_ways_of(attend, q, k, v, dout):
    """Returns the output and the gradients with respect to queries, keys and values."""
    out, pullback = jax.vjp(attend, q, k, v)
    return out, *pullback(dout.astype(out.dtype))


def with_kernels(*arguments):
    return both_ways_of(pallas.attention, *arguments)


def plainly(*arguments):
    return both_ways_of(lambda *a: dot_product_attention(*a, compute="reference"), *arguments)


@pytest.mark.parametrize(("queries", "keys"), [(20, 6), (9, 9)])
def test_bfloat16_is_as_near_to_float32_as_the_plain_form_is(queries, keys):
    tokens = random_tokens(2, queries, keys)
    expected = plainly(*(array.astype(jnp.float32) for array in tokens))
    ours, plain = quick_jit(with_kernels)(*tokens), quick_jit(plainly)(*tokens)
    for near, far, exact in zip(ours, plain, expected, strict=True):
        assert near.dtype == jnp.bfloat16
        assert near.shape == exact.shape
        assert 1 - cosine(near, exact) < min(2e-5, 1.5 * (1 - cosine(far, exact)))


def test_large_scores_stay_finite():
    q, k, v, dout = random_tokens(1, 4, 4)
    for array in quick_jit(with_kernels)(1e3 * q, 1e3 * k, v, dout):
        assert np.isfinite(np.asarray(array, np.float32)).all()


def test_eight_devices_give_what_one_does():
    tokens = random_tokens(8, 12, 4)
    expected = quick_jit(with_kernels)(*tokens)
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    sharding = NamedSharding(mesh, BATCH_SPEC)
    program = traced_under(mesh, lambda *a: with_kernels(*a))
    compiled = (
        quick_jit(program, in_shardings=sharding, out_shardings=sharding).lower(*tokens).compile()
    )
    assert "all-gather" not in compiled.as_text()
    for ours, theirs in zip(compiled(*jax.device_put(tokens, sharding)), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(ours, np.float32), np.asarray(theirs, np.float32))


@pytest.mark.parametrize("sr_ratio", [1, 2])
def test_in_its_module(sr_ratio):
    x = jnp.asarray(
        np.random.default_rng(0).standard_normal((1, 4, 4, 2 * HEADS * D)), jnp.bfloat16
    )
    plain = ShuntedSelfAttention(2 * HEADS, sr_ratio, numerics=Numerics(jnp.bfloat16))
    kernels = plain.clone(numerics=Numerics(jnp.bfloat16, compute="pallas"))
    variables = plain.init(jax.random.key(0), x)
    same = kernels.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, same, variables)

    def results(module):
        return both_ways(
            lambda x, params: module.apply({"params": params}, x), x, variables["params"], x
        )

    ours, theirs = (quick_jit(lambda m=m: results(m))() for m in (kernels, plain))
    # Biases of keys change nothing, and their gradients are rounding.
    assert min(map(cosine, ours[:2], theirs[:2])) > 0.9999
    assert (
        min(jax.tree.leaves(jax.tree.map(cosine, *(r[2]["proj"] for r in (ours, theirs))))) > 0.9999
    )


@pytest.mark.parametrize(
    ("shape", "keys", "dtype", "message"),
    [
        ((3, 3136, 1, 32), 196, jnp.float32, "float32, and the kernels want bfloat16"),
        ((3, 16384, 1, 32), 1024, jnp.bfloat16, "16384 queries and 1024 keys take [0-9]+ MiB"),
        ((3, 49, 2, 24), 49, jnp.bfloat16, "a head has 24 channels.*a multiple of 16"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(shape, keys, dtype, message):
    q, k = (jax.ShapeDtypeStruct((3, n, *shape[2:]), dtype) for n in (shape[1], keys))
    with pytest.raises(UserError, match=f"compute='pallas' cannot apply: .*{message}"):
        jax.eval_shape(pallas.attention, q, k, k)


def test_a_batch_that_devices_cannot_share_is_refused():
    q = jax.ShapeDtypeStruct((3, 49, 2, 32), jnp.bfloat16)
    attend = traced_under(make_mesh(MeshConfig()), pallas.attention)
    with pytest.raises(UserError, match="3 images cannot be shared evenly by 8 devices"):
        jax.eval_shape(attend, q, q, q)


def test_dropped_weights_are_refused_in_training_alone():
    q, k, v, _ = (rearrange(t, "b (h w) n d -> b h w (n d)", h=2) for t in random_tokens(1, 4, 4))
    attend = Attend(HEADS, 0.5, Numerics(jnp.bfloat16, compute="pallas"))
    assert "pallas_call" in str(jax.make_jaxpr(lambda *a: attend.apply({}, *a))(q, k, v))
    with pytest.raises(UserError, match=r"attn_drop_rate is 0\.5"):
        attend.apply({}, q, k, v, train=True, rngs={"dropout": jax.random.key(0)})
