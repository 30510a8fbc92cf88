"""Random erasing (arXiv 1708.04896), the published recipe's form: one box an image, of noise."""

import jax
import jax.numpy as jnp

_ATTEMPTS = 10  # at a box that fits into the image, as in the published pipeline


def random_erase(
    key: jax.Array,
    images: jax.Array,
    prob: float,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> jax.Array:
    """Fills a box in some of the images with normal noise, another number for each value.

    Args:
        key: decides everything.
        images: float [batch, height, width, channels], normalised.
        prob: how likely each image is to get a box.
        area: the least and the largest share of the image's area.
        aspect: the least and the largest height to width; its logarithm is uniform.

    Returns:
        [batch, height, width, channels], in the images' dtype.
    """
    of_boxes, of_noise = jax.random.split(key)
    inside = draw_boxes(of_boxes, images.shape[:3], prob, area, aspect)
    noise = jax.random.normal(of_noise, images.shape, images.dtype)
    return jnp.where(inside[..., None], noise, images)


def draw_boxes(
    key: jax.Array,
    shape: tuple[int, int, int],
    prob: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> jax.Array:
    """Returns which pixels to erase, bool [batch, height, width]; shape is that of the result."""
    batch, height, width = shape
    of_prob, of_area, of_aspect, of_top, of_left = jax.random.split(key, 5)
    tries = (batch, _ATTEMPTS)
    areas = jax.random.uniform(of_area, tries, minval=area[0], maxval=area[1]) * height * width
    limits = jnp.log(jnp.asarray(aspect))
    aspects = jnp.exp(jax.random.uniform(of_aspect, tries, minval=limits[0], maxval=limits[1]))
    box_heights = jnp.round(jnp.sqrt(areas * aspects))
    box_widths = jnp.round(jnp.sqrt(areas / aspects))
    fits = (box_heights < height) & (box_widths < width)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    box_height = jnp.take_along_axis(box_heights, first, axis=1)
    box_width = jnp.take_along_axis(box_widths, first, axis=1)
    # [batch, 1] each; a box may touch the far edge.
    top = jnp.floor(jax.random.uniform(of_top, (batch, 1)) * (height - box_height + 1))
    left = jnp.floor(jax.random.uniform(of_left, (batch, 1)) * (width - box_width + 1))
    rows, columns = jnp.arange(height), jnp.arange(width)
    in_rows = (rows >= top) & (rows < top + box_height)
    in_columns = (columns >= left) & (columns < left + box_width)
    erased = jax.random.bernoulli(of_prob, prob, (batch, 1)) & fits.any(axis=1, keepdims=True)
    return (erased & in_rows)[:, :, None] & in_columns[:, None, :]
