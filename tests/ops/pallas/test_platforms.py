"""Where there is no TPU: `pallas` is refused in a sentence, and `auto` holds no kernel at all.

Programs are lowered for platforms that need not be there.
"""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.pallas import tpu as pltpu

from shunted_jax.errors import UserError
from shunted_jax.models import ShuntedTransformer
from shunted_jax.ops import pallas

OTHERS = ("cpu", "cuda", "rocm")
Q, K = (jax.ShapeDtypeStruct((2, tokens, 1, 32), jnp.bfloat16) for tokens in (64, 16))
MAP = jax.ShapeDtypeStruct((8, 4, 3, 16), jnp.bfloat16)
PARAMS = {
    "fc1": {"kernel": jnp.zeros((16, 128)), "bias": jnp.zeros(128)},
    "depthwise": {"kernel": jnp.zeros((3, 3, 1, 128)), "bias": jnp.zeros(128)},
    "fc2": {"kernel": jnp.zeros((128, 16)), "bias": jnp.zeros(16)},
}
KERNELS = {
    "attention": (pallas.attention, (Q, K, K)),
    "feed_forward": (lambda x: pallas.feed_forward(x, PARAMS), (MAP,)),
}
TAKEN = {
    "attention": "bfloat16[2,64,32] and bfloat16[2,16,32] and bfloat16[2,16,32]",
    "feed_forward": "bfloat16[8,4,3,16]",
}
# Which programs run is what matters here, not how well.
FIELDS = {"embed_dims": (32,), "num_heads": (2,), "mlp_ratios": (4,), "sr_ratios": (2,)}


def trace(function, *arguments):
    # A function of its own: what was traced for another interpreter is not taken again.
    return jax.jit(lambda *a: function(*a)).trace(*arguments)


def lower(platform, traced):
    return traced.lower(lowering_platforms=(platform,))


def trace_gradients(compute):
    """Traces the gradients of a one-block network."""
    model = ShuntedTransformer(depths=(1,), **FIELDS, dtype=jnp.bfloat16, compute=compute)
    images = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def loss(variables, images):
        logits, _ = model.apply(variables, images, train=True, mutable="batch_stats")
        return jnp.sum(logits)

    return trace(jax.grad(loss), variables, images)


@pytest.mark.parametrize("platform", OTHERS)
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_refused(name, platform):
    function, arguments = KERNELS[name]
    with pytest.raises(UserError) as refusal:
        lower(platform, trace(function, *arguments))
    assert str(refusal.value) == (
        f"compute='pallas' cannot apply: the kernels are a TPU's, and one for {TAKEN[name]} is in "
        f"a program for {platform!r}; take compute='auto'"
    )


def test_a_call_outside_of_a_program_is_refused():
    q = jnp.zeros(Q.shape, Q.dtype)
    with pytest.raises(UserError, match="is in a program for 'cpu'; take compute='auto'"):
        pallas.attention(q, q, q)


@pytest.mark.parametrize("platform", OTHERS)
def test_a_network_with_kernels_is_refused(platform):
    with pytest.raises(UserError, match=f"the kernels are a TPU's.* program for '{platform}'"):
        lower(platform, trace_gradients("pallas"))


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
@pytest.mark.parametrize("interpreter", [True, pltpu.InterpretParams()])
def test_the_interpreter_is_for_a_cpu_alone(interpreter, platform):
    with (
        pallas.interpreted(interpreter),
        pytest.raises(UserError, match=f"CPU's in the interpreter.* program for '{platform}'"),
    ):
        lower(platform, trace_gradients("pallas"))


def custom_calls(platform, traced):
    """Returns what a program calls that is not XLA's own, kernels and Python's callbacks."""
    return set(re.findall(r"custom_call @(\w+)", lower(platform, traced).as_text()))


def test_auto_holds_nothing_of_kernels_and_interpreters():
    # What would be found.
    kernels = trace_gradients("pallas")
    assert "pallas_call" in str(kernels.jaxpr)
    assert "tpu_custom_call" in custom_calls("tpu", kernels)
    with pallas.interpreted(pltpu.InterpretParams()):
        assert "xla_ffi_python_cpu_callback" in custom_calls("cpu", trace_gradients("pallas"))
        autos = [trace_gradients("auto")]  # whoever asks for the interpreter does not get it
    autos.append(trace_gradients("auto"))
    for auto in autos:
        assert "pallas_call" not in str(auto.jaxpr)
        for platform in ("cuda", "rocm"):
            # With JAX's plugin for CUDA there is cuDNN's attention.
            assert custom_calls(platform, auto) <= ({"__cudnn"} if platform == "cuda" else set())
