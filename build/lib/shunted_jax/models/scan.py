"""Equal blocks as one loop: the compiler sees a single block, and takes time for that alone.

Parameters stay where they are, in `blocks_0`, `blocks_1`, ...: they are stacked when the network is
called. Dropout draws what it would in blocks one after another, so that a run may go on with or
without the loop.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from shunted_jax.models.flax_keys import key_and_number
from shunted_jax.models.layers import DropPath


def scan_blocks(
    blocks: Sequence[nn.Module], x: jax.Array, *, train: bool = False, remat: bool = False
) -> jax.Array:
    """Returns what `blocks` make of x one after another.

    Args:
        blocks: bound, with parameters, and alike but for `drop_path_rate`.
        x: [batch, height, width, dim], the first one's input.
        train: drop rates apply.
        remat: compute each block again for the gradients instead of keeping it.
    """
    block = blocks[0].clone(parent=None, name=None)
    params = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(b.variables["params"] for b in blocks)
    )
    rates = np.array([b.drop_path_rate for b in blocks])
    # As float32, 1 - rate is then the number that dropout makes of the Python one.
    rates = 1 - (1 - rates).astype(np.float32)

    def call(x: jax.Array, of_block: Any) -> tuple[jax.Array, None]:
        params, rate, index = of_block

        def drop(next_call, args, kwargs, context):
            module = context.module
            if train and rates.any() and isinstance(module, DropPath):
                key = _dropout_key(blocks, (*module.path, "Dropout_0"), index)
                return _drop_path(key, *args, rate)
            if train and isinstance(module, nn.Dropout) and module.rate:
                kwargs = {**kwargs, "rng": _dropout_key(blocks, module.path, index)}
            return next_call(*args, **kwargs)

        with nn.intercept_methods(drop):
            return block.apply({"params": params}, x, train=train), None

    if remat:  # a loop's body is not merged with what is computed outside of it
        call = jax.checkpoint(call, prevent_cse=False)
    return jax.lax.scan(call, x, (params, rates, np.arange(len(blocks))))[0]


def _drop_path(key: jax.Array, x: jax.Array, rate: jax.Array) -> jax.Array:
    """Returns what `DropPath` does in training; `rate` is an array, which `nn.Dropout` refuses."""
    keep = 1 - rate
    kept = jax.random.bernoulli(key, keep, (len(x), 1, 1, 1))
    return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros_like(x))


def _dropout_key(blocks: Sequence[nn.Module], path: tuple[str, ...], index: jax.Array) -> jax.Array:
    """Returns the key that Flax gives to the dropout at `path` within `blocks[index]`."""
    blocks[0].make_rng("dropout")  # raises Flax's own error where there is no stream
    keys, numbers = zip(*(key_and_number(b, "dropout", path) for b in blocks), strict=True)
    return jax.random.fold_in(keys[0], jnp.array(numbers, jnp.uint32)[index])
