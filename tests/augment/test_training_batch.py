"""What the training step sees: normalised, erased, mixed and smoothed, in this order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from shunted_jax.augment.erasing import random_erase
from shunted_jax.augment.mixing import draw_weights, mix_images, mix_targets
from shunted_jax.augment.normalizing import normalize
from shunted_jax.augment.training_batch import augment
from shunted_jax.config import AugmentConfig, Config, DataConfig
from shunted_jax.training.devices.sharding import batch_sharding
from tests.support.quick import quick_jit

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 24, 20, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 10, 8).astype(np.int32)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_config(**changes):
    return Config(data=DataConfig(mean=MEAN, std=STD), augment=AugmentConfig(**changes))


def test_normalisation():
    expected = (IMAGES / 255.0 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(normalize(jnp.asarray(IMAGES), MEAN, STD), expected, atol=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_mixing_targets_are_smoothed_labels(smoothing):
    config = make_config()
    config.label_smoothing = smoothing
    found = augment(jax.random.key(0), jnp.asarray(IMAGES), jnp.asarray(LABELS), 10, config)
    np.testing.assert_array_equal(found.images, normalize(jnp.asarray(IMAGES), MEAN, STD))
    expected = (1 - smoothing) * np.eye(10)[LABELS] + smoothing / 10
    np.testing.assert_allclose(found.targets, expected, atol=1e-7)
    assert found.kept == 1


def test_the_whole_is_its_parts_in_the_recipes_order():
    def parts(key, images, labels):
        of_erasing, of_mixing = jax.random.split(key)
        images = normalize(images, MEAN, STD)
        images = random_erase(of_erasing, images, 0.5)  # after normalising: noise of its scale
        weights = draw_weights(of_mixing, 24, 20, mixup_alpha=0.8, cutmix_alpha=1.0)
        targets = 0.9 * jax.nn.one_hot(labels, 10) + 0.01
        return mix_images(images, weights), mix_targets(targets, weights), jnp.mean(weights)

    config = make_config(erase_prob=0.5, mixup_alpha=0.8, cutmix_alpha=1.0)
    whole = quick_jit(functools.partial(augment, num_classes=10, config=config))
    parts = quick_jit(parts)
    for seed in range(4):
        key = jax.random.key(seed)
        found = whole(key, IMAGES, LABELS)
        images, targets, kept = parts(key, IMAGES, LABELS)
        np.testing.assert_allclose(found.images, images, atol=1e-6)
        np.testing.assert_allclose(found.targets, targets, atol=1e-6)
        np.testing.assert_allclose(found.kept, kept, atol=1e-6)


def test_devices_do_not_change_what_is_drawn():
    config = make_config(erase_prob=0.5, mixup_alpha=0.8, cutmix_alpha=1.0)
    compute = functools.partial(augment, num_classes=10, config=config)
    key = jax.random.key(3)
    one = quick_jit(compute)(key, jnp.asarray(IMAGES), jnp.asarray(LABELS))
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    put = functools.partial(jax.device_put, device=batch_sharding(mesh))
    compiled = jax.jit(compute).lower(key, put(IMAGES), put(LABELS)).compile()
    spread = compiled(key, put(IMAGES), put(LABELS))
    np.testing.assert_allclose(spread.images, one.images, atol=1e-6)
    np.testing.assert_allclose(spread.targets, one.targets, atol=1e-6)
    # The partner's image comes from one other device; nobody gathers the batch.
    assert "all-gather" not in compiled.as_text()
