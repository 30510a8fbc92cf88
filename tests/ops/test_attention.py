"""softmax(Q K^T / sqrt(d)) V: both forms are the definition, in value and in gradient."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.ops import attention as dot_product
from shunted_jax.ops.attention import FORMS, dot_product_attention


def arguments(spread=1.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = (2, 6, 3, 8), (2, 5, 3, 8), (2, 5, 3, 8)  # [batch, tokens, heads, d]
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return tuple(jnp.asarray(array, dtype) for array in (q * np.float32(spread), k, v))


@pytest.mark.parametrize("form", [*FORMS, None])
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_every_form_is_the_definition(form, spread):
    q, k, v = (np.asarray(array, np.float64) for array in arguments(spread))
    expected = np.empty(q.shape)
    for image, head in np.ndindex(q.shape[0], q.shape[2]):
        scores = q[image, :, head] @ k[image, :, head].T / np.sqrt(8)
        # At a spread of 300 exponentials of the scores themselves overflow.
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected[image, :, head] = weights / weights.sum(-1, keepdims=True) @ v[image, :, head]
    out = dot_product_attention(*arguments(spread), form)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6 * max(spread, 10))


# Scores of one image: 6 queries, 3 heads, 5 keys. A prime number of queries is not taken apart.
@pytest.mark.parametrize(
    ("at_a_time", "queries", "parts"),
    [(90, 6, 4), (180, 6, 2), (45, 6, 8), (15, 6, 24), (75, 7, 4)],
)
def test_many_scores_go_through_in_parts(at_a_time, queries, parts, monkeypatch):
    q, k, v = (jnp.concatenate([array, -array, array, array]) for array in arguments())
    q, k, v = (array[:4] for array in (jnp.concatenate([q, q], axis=1)[:, :queries], k, v))
    expected = dot_product_attention(q, k, v, "quotient")
    monkeypatch.setattr(dot_product, "_AT_ONCE", 1)
    monkeypatch.setattr(dot_product, "_AT_A_TIME", at_a_time)
    attend = partial(dot_product_attention, form="quotient")
    assert re.findall(r"length=(\d+)", str(jax.make_jaxpr(attend)(q, k, v))) == [str(parts)]
    np.testing.assert_allclose(attend(q, k, v), expected, rtol=0, atol=1e-6)
    # Gradients are of the whole batch.
    assert "scan[" not in str(jax.make_jaxpr(partial(gradients, "quotient"))((q, k, v)))


def gradients(form, arguments):
    out, pullback = jax.vjp(lambda *a: dot_product_attention(*a, form), *arguments)
    return pullback(jnp.sin(3 * out))


@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_gradients_agree(spread):
    ours, theirs = (gradients(form, arguments(spread)) for form in ("quotient", "weights"))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * max(spread, 10))


def test_bfloat16_gradients_are_those_of_float32_but_for_rounding():
    halves = arguments(dtype=jnp.bfloat16)
    ours = gradients("quotient", halves)
    exact = gradients("weights", [array.astype(jnp.float32) for array in halves])
    for one, other in zip(ours, exact, strict=True):
        assert one.dtype == jnp.bfloat16
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(one.astype(jnp.float32), other, rtol=0, atol=0.04 * scale)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_scores_and_sums_are_float32(form):
    out = dot_product_attention(*arguments(dtype=jnp.bfloat16), form)
    assert out.dtype == jnp.bfloat16
    exact = dot_product_attention(*(a.astype(jnp.float32) for a in arguments(dtype=jnp.bfloat16)))
    # q times the scale, the weights and the result are rounded, to 8 bits each.
    np.testing.assert_allclose(out.astype(jnp.float32), exact, rtol=0, atol=0.04)


def test_form_follows_the_platform_that_the_program_is_for():
    traced = jax.jit(dot_product_attention).trace(*arguments())
    for platform, form in (("cpu", "quotient"), ("tpu", "weights"), ("cuda", "weights")):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        divided = [line for line in program.splitlines() if "stablehlo.divide" in line]
        # The one divides [batch, heads, queries, d], the other by keys.
        shape = "2x3x6x8xf32" if form == "quotient" else "2x3x6x5xf32"
        assert len(divided) == 1, platform
        assert shape in divided[0], platform


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match="'fast'.*'quotient', 'weights'"):
        dot_product_attention(*arguments(), "fast")
