"""The stem's convolutions: their forms compute one function, with one set of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from einops import rearrange

from shunted_jax.models.convolution import OverlappingConv, overlapping_conv
from tests.quick import quick_jit

CASES = [(2, 7, 3), (1, 3, 5)]  # stride, size, in_channels


def arguments(stride, size, in_channels, batch=11):
    rng = np.random.default_rng(0)
    shapes = (
        (batch, 9, 12, in_channels),
        (size, size, in_channels, 4),
        (batch, -(-9 // stride), 12 // stride, 4),
    )
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("batch", [1, 11])  # less than the parts, and no multiple of them
@pytest.mark.parametrize("case", CASES)
def test_every_form_is_pytorchs(case, batch):
    stride, size, _ = case
    x, kernel, cotangent = arguments(*case, batch=batch)
    leaves = [
        torch.tensor(rearrange(x, "b h w c -> b c h w"), dtype=torch.float64, requires_grad=True),
        torch.tensor(
            rearrange(kernel, "i j c d -> d c i j"), dtype=torch.float64, requires_grad=True
        ),
    ]
    out = torch.nn.functional.conv2d(*leaves, stride=stride, padding=size // 2)
    out.backward(torch.tensor(rearrange(cotangent, "b h w c -> b c h w"), dtype=torch.float64))
    exact = (
        rearrange(out.detach().numpy(), "b c h w -> b h w c"),
        rearrange(leaves[0].grad.numpy(), "b c h w -> b h w c"),
        rearrange(leaves[1].grad.numpy(), "d c i j -> i j c d"),
    )
    for form in ("whole", "parts", None):

        def value_and_gradients(x, kernel, cotangent, form=form):
            out, pullback = jax.vjp(lambda *a: overlapping_conv(*a, stride, form), x, kernel)
            return out, *pullback(cotangent)

        for ours, theirs in zip(
            quick_jit(value_and_gradients)(x, kernel, cotangent), exact, strict=True
        ):
            np.testing.assert_allclose(
                ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max() + 1e-5
            )


def test_the_kernels_gradient_is_in_parts_on_a_cpu_alone():
    x, kernel, cotangent = arguments(*CASES[0])

    def of_kernel(x, kernel, cotangent):
        return jax.vjp(lambda kernel: overlapping_conv(x, kernel, 2), kernel)[1](cotangent)

    traced = jax.jit(of_kernel).trace(x, kernel, cotangent)
    counts = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("convolution(")
        for platform in ("cpu", "tpu", "cuda")
    }
    assert counts["tpu"] == counts["cuda"]
    assert counts["cpu"] == counts["tpu"] + 7


def test_module_declares_a_kernel_and_no_bias():
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    module = OverlappingConv(5, 7, 2, dtype=jnp.bfloat16)
    out, variables = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x), images)
    assert (out.shape, out.dtype) == ((1, 4, 4, 5), jnp.bfloat16)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (7, 7, 3, 5)}}


def test_unknown_form_is_named():
    with pytest.raises(ValueError, match="'halves'.*'parts', 'whole'"):
        overlapping_conv(*arguments(*CASES[0])[:2], form="halves")
