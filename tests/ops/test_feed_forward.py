"""The detail-specific feed-forward: its forms compute one function, with one set of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from shunted_jax.models.layers import DetailFeedForward
from shunted_jax.ops import feed_forward as detail
from shunted_jax.ops.feed_forward import detail_feed_forward, inner_step
from shunted_jax.ops.gelu import gelu, gelu_derivative
from tests.support.quick import quick_jit

DIM, HIDDEN_DIM = 3, 6


def arguments(dtype=jnp.float32, maps=(4, 7, 5)):
    """Returns a map, parameters none of which is zero, and a gradient of the output."""
    rng = np.random.default_rng(0)
    shapes = {
        "fc1": {"kernel": (DIM, HIDDEN_DIM), "bias": (HIDDEN_DIM,)},
        "depthwise": {"kernel": (3, 3, 1, HIDDEN_DIM), "bias": (HIDDEN_DIM,)},
        "fc2": {"kernel": (HIDDEN_DIM, DIM), "bias": (DIM,)},
    }

    def draw(shape):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    params = jax.tree.map(draw, shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    return draw((*maps, DIM)), params, draw((*maps, DIM))


def value_and_gradients(form, x, params, cotangent):
    out, pullback = jax.vjp(lambda x, p: detail_feed_forward(x, p, form), x, params)
    return {"value": out, "gradients": pullback(cotangent.astype(out.dtype))}


def number_of_loops(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments)).count("scan[")


# Of four images: all, two, and one at a time; of one image's map, 7 * 5 * 6, there are 210 numbers.
@pytest.mark.parametrize(("limit", "loops"), [(2**18, 0), (420, 2), (1, 2)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_forms_agree_in_value_and_gradient(dtype, limit, loops, monkeypatch):
    monkeypatch.setattr(detail, "_AT_A_TIME", limit)
    monkeypatch.setattr(detail, "_GRADIENTS_AT_A_TIME", limit)
    x, params, cotangent = arguments(dtype)
    exact = [jax.tree.map(lambda leaf: leaf.astype(jnp.float32), t) for t in (x, params, cotangent)]

    def results(x, params, cotangent):
        inferred = detail_feed_forward(x, params, "shift")
        return value_and_gradients("shift", x, params, cotangent) | {"inferred": inferred}

    expected = quick_jit(lambda *a: value_and_gradients("conv", *a))(*exact)
    expected["inferred"] = expected["value"]
    # Inference is one loop, training another: of the gradients alone.
    assert number_of_loops(results, x, params, cotangent) == loops
    ours = quick_jit(results)(x, params, cotangent)

    def close(one, other):
        assert one.dtype == dtype
        # In bfloat16 the map is rounded after each of the three layers, to 8 bits.
        tolerance = 3e-6 if dtype == jnp.float32 else 2**-6
        one, other = (np.asarray(leaf, np.float32) for leaf in (one, other))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())

    jax.tree.map(close, ours, expected)


def test_form_follows_the_platform_that_the_program_is_for():
    traced = jax.jit(lambda *a: value_and_gradients(None, *a)).trace(*arguments())
    for platform, is_convolution in (("cpu", False), ("tpu", True), ("cuda", True)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in program) == is_convolution, platform
    assert "conditional" not in traced.lower().compile().as_text(), "a choice is left"


def test_gradients_keep_the_hidden_map_before_and_after_gelu_and_nothing_else():
    x, params, _ = arguments()
    _, pullback = jax.vjp(lambda *a: detail_feed_forward(*a, "shift"), x, params)
    kept = sorted(leaf.size for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "size"))
    hidden = x.size // DIM * HIDDEN_DIM
    assert kept == sorted([hidden, hidden, *(leaf.size for leaf in jax.tree.leaves((x, params)))])


def test_inner_step_is_the_middle_of_it():
    x, params, _ = arguments()
    y = x @ params["fc1"]["kernel"] + params["fc1"]["bias"]
    y = inner_step(y, params["depthwise"])
    expected = y @ params["fc2"]["kernel"] + params["fc2"]["bias"]
    np.testing.assert_allclose(detail_feed_forward(x, params), expected, rtol=0, atol=1e-4)


def test_dropped_elements_are_zero_and_the_others_larger():
    x, params, _ = arguments()
    module = DetailFeedForward(HIDDEN_DIM, drop_rate=0.5)
    rngs = {"dropout": jax.random.key(0)}
    identity = params | {"fc2": {"kernel": jnp.eye(HIDDEN_DIM, DIM), "bias": jnp.zeros(DIM)}}
    whole = module.apply({"params": identity}, x)
    dropped = module.apply({"params": identity}, x, train=True, rngs=rngs)
    kept = dropped != 0
    assert 0.15 < kept.mean() < 0.35  # half of a half
    np.testing.assert_allclose(dropped[kept], 4 * whole[kept], rtol=1e-5, atol=1e-5)


def test_dropping_takes_the_same_gradients():
    x, params, _ = arguments()
    y, depthwise = x @ params["fc1"]["kernel"], params["depthwise"]
    ours, theirs = (
        quick_jit(jax.grad(lambda *a, f=form: jnp.sum(jnp.sin(inner_step(*a, f))), (0, 1)))(
            y, depthwise
        )
        for form in ("shift", "conv")
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-5), ours, theirs)


def test_gelu_is_the_definition():
    x = np.float32([*np.linspace(-12, 12, 4001), 0.0, -100.0, 100.0]).astype(np.float64)
    exact = x * scipy.special.ndtr(x)
    assert np.all(np.abs(gelu(jnp.float32(x)) - exact) <= 3e-7 * np.maximum(np.abs(x), 1))
    density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(
        gelu_derivative(jnp.float32(x)), scipy.special.ndtr(x) + x * density, rtol=0, atol=5e-7
    )


def test_gelu_in_bfloat16_is_rounded_once():
    x = jnp.linspace(-4, 4, 1001).astype(jnp.bfloat16)
    exact = np.float64(x) * scipy.special.ndtr(np.float64(x))
    out = gelu(x)
    assert out.dtype == jnp.bfloat16
    # Half a unit in the last of bfloat16's 8 bits, and a little for float32's own rounding.
    np.testing.assert_allclose(np.float64(out), exact, rtol=2**-8, atol=1e-6)


def test_module_declares_the_parameters_of_three_layers():
    x, params, _ = arguments()
    declared = DetailFeedForward(HIDDEN_DIM).init(jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, declared) == jax.tree.map(jnp.shape, params)
    assert not any(layer["bias"].any() for layer in declared.values())


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match="'fast'.*'conv', 'shift'"):
        detail_feed_forward(*arguments()[:2], "fast")
