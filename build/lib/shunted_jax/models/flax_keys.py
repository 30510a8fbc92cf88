"""Which random key Flax gives to a module: the only file that leans on how Flax does that.

Flax tells a key to the module that draws with it, and to nobody else. A loop over blocks draws for
all of them, and has to know their keys.
"""

import hashlib

import flax
import jax
from flax import linen as nn


def key_and_number(module: nn.Module, stream: str, path: tuple[str, ...]) -> tuple[jax.Array, int]:
    """Returns a key, and the number to fold into it for the first draw of a module inside another.

    `jax.random.fold_in(key, number)` is what `make_rng(stream)` returns to that module.

    Args:
        module: bound.
        stream: its name; as in Flax, `params` stands in for one that is not there.
        path: names that lead from `module` to the one that draws.
    """
    streams = module.scope.rngs
    lazy = streams.get(stream, streams.get("params"))
    return lazy.rng, _number((*lazy.suffix, *path, 1))


def _number(names: tuple[str | int, ...]) -> int:
    # As `flax.core.scope.LazyRng` computes it.
    separator = b"\00" if flax.config.flax_fix_rng_separator else b""
    parts = [
        name.encode() if isinstance(name, str) else name.to_bytes((name.bit_length() + 7) // 8)
        for name in names
    ]
    digest = hashlib.sha1(b"".join(separator + part for part in parts)).digest()
    return int.from_bytes(digest[:4])
