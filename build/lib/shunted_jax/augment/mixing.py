"""Mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899): one of the two for a whole batch.

Each image is mixed with the one at its place in the reversed batch. Both are the same sum, weighted
pixel by pixel: mixup's weight is one number, cutmix's is 0 in a box and 1 around it.
"""

import jax
import jax.numpy as jnp


def draw_weights(
    key: jax.Array,
    height: int,
    width: int,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    switch_prob: float = 0.5,
) -> jax.Array:
    """Returns how much of each pixel a batch keeps, float32 [height, width] in [0, 1].

    Args:
        key: decides everything.
        height: of the images, in pixels.
        width: likewise.
        mixup_alpha: mixup's weight is drawn from Beta(alpha, alpha); 0: no mixup.
        cutmix_alpha: likewise the share of the image around cutmix's box, before the box is cut
            at the image's edges; 0: no cutmix.
        switch_prob: of cutmix, where both are on.
    """
    of_choice, of_mixup, of_cutmix, of_box = jax.random.split(key, 4)
    shape = (height, width)
    mixup = cutmix = jnp.ones(shape)
    if mixup_alpha:
        mixup = jnp.broadcast_to(jax.random.beta(of_mixup, mixup_alpha, mixup_alpha), shape)
    if cutmix_alpha:
        around = jax.random.beta(of_cutmix, cutmix_alpha, cutmix_alpha)
        cutmix = 1 - _in_box(of_box, height, width, jnp.sqrt(1 - around))
    if not (mixup_alpha and cutmix_alpha):
        return cutmix if cutmix_alpha else mixup
    return jnp.where(jax.random.bernoulli(of_choice, switch_prob), cutmix, mixup)


def mix_images(images: jax.Array, weights: jax.Array) -> jax.Array:
    """Mixes each image with its partner.

    Args:
        images: float [batch, height, width, channels].
        weights: as `draw_weights` returns them.

    Returns:
        [batch, height, width, channels], in the images' dtype.
    """
    weights = weights.astype(images.dtype)[None, :, :, None]
    return weights * images + (1 - weights) * images[::-1]


def mix_targets(targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Mixes float [batch, classes] targets as the images are, by the pixels that each keeps."""
    kept = jnp.mean(weights)
    return kept * targets + (1 - kept) * targets[::-1]


def _in_box(key: jax.Array, height: int, width: int, side: jax.Array) -> jax.Array:
    """Returns 1.0 in a box that takes the share `side` of each side, its centre anywhere."""

    def inside(key: jax.Array, length: int) -> jax.Array:
        half = jnp.floor(length * side).astype(jnp.int32) // 2
        center = jax.random.randint(key, (), 0, length)
        at = jnp.arange(length)
        return ((at >= center - half) & (at < center + half)).astype(jnp.float32)

    of_rows, of_columns = jax.random.split(key)
    return inside(of_rows, height)[:, None] * inside(of_columns, width)
