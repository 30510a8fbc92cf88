"""What a classifier is trained on: a batch normalised, erased, mixed, its labels smoothed."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from shunted_jax.augment.erasing import random_erase
from shunted_jax.augment.mixing import draw_weights, mix_images, mix_targets
from shunted_jax.augment.normalizing import normalize
from shunted_jax.config import Config


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Augmented:
    """A batch as the network is trained on it.

    Attributes:
        images: float32 [batch, height, width, channels].
        targets: float32 [batch, classes], each row a distribution.
        kept: float32 [], the weight of each image's own label; its partner in the reversed batch
            has the rest.
    """

    images: jax.Array
    targets: jax.Array
    kept: jax.Array


def augment(
    key: jax.Array, images: jax.Array, labels: jax.Array, num_classes: int, config: Config
) -> Augmented:
    """Normalises, erases, mixes and smooths, in this order, as `config` says.

    Args:
        key: decides everything random.
        images: uint8 [batch, height, width, channels].
        labels: int32 [batch].
        num_classes: how many labels there are.
        config: of the run; `data`, `augment` and `label_smoothing` are used.
    """
    settings = config.augment
    of_erasing, of_mixing = jax.random.split(key)
    images = normalize(images, config.data.mean, config.data.std)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, num_classes), config.label_smoothing)
    if settings.erase_prob:
        images = random_erase(
            of_erasing, images, settings.erase_prob, settings.erase_area, settings.erase_aspect
        )
    if not (settings.mixup_alpha or settings.cutmix_alpha):
        return Augmented(images, targets, jnp.ones(()))
    weights = draw_weights(
        of_mixing,
        *images.shape[1:3],
        mixup_alpha=settings.mixup_alpha,
        cutmix_alpha=settings.cutmix_alpha,
        switch_prob=settings.switch_prob,
    )
    return Augmented(mix_images(images, weights), mix_targets(targets, weights), jnp.mean(weights))
