"""From bytes to the numbers that the network is given."""

import jax
import jax.numpy as jnp


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Returns (images / 255 - mean) / std.

    Args:
        images: uint8 [batch, height, width, channels].
        mean: of each channel, for pixels in [0, 1].
        std: of each channel, likewise.

    Returns:
        float32 [batch, height, width, channels].
    """
    return (images.astype(jnp.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)
