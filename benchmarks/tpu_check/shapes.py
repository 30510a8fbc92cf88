"""The shapes that a network gives its attention and its feed-forward, read off the network."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from shunted_jax.models import ShuntedTransformer
from shunted_jax.models.attention import Attend
from shunted_jax.models.mlp import DetailFeedForward


class AttentionShape(NamedTuple):
    """What an image's attention by a group of heads takes."""

    queries: int
    keys: int
    heads: int
    d: int


class FeedForwardShape(NamedTuple):
    """What an image's feed-forward takes."""

    height: int
    width: int
    dim: int
    hidden_dim: int


class KernelShapes(NamedTuple):
    """What a network's blocks take, each once, in order."""

    attention: list[AttentionShape]
    feed_forward: list[FeedForwardShape]


def kernel_shapes(model: ShuntedTransformer, height: int, width: int) -> KernelShapes:
    """Returns what the blocks of a network take for images of so many pixels."""
    attention, feed_forward = {}, {}

    def note(call, arguments, keywords, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, Attend):
            (_, *queries, channels), (_, *keys, _), _ = (array.shape for array in arguments)
            heads = module.num_heads
            counts = queries[0] * queries[1], keys[0] * keys[1]
            attention[AttentionShape(*counts, heads, channels // heads)] = None
        if context.method_name == "__call__" and isinstance(module, DetailFeedForward):
            feed_forward[FeedForwardShape(*arguments[0].shape[1:], module.hidden_dim)] = None
        return call(*arguments, **keywords)

    images = jax.ShapeDtypeStruct((1, height, width, model.in_channels), jnp.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(model.init, jax.random.key(0), images)
    return KernelShapes(list(attention), list(feed_forward))
