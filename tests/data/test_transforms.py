"""What happens to one image, put together as a configuration says."""

import pickle

import numpy as np
import pytest
from PIL import Image

from shunted_jax.config import AugmentConfig, Config, DataConfig
from shunted_jax.data.crops import CenterCrop, PaddedCrop, RandomResizedCrop
from shunted_jax.data.decoding import EncodedImage
from shunted_jax.data.rand_augment import RandAugment
from shunted_jax.data.recipe import make_eval_transform, make_train_transform
from shunted_jax.data.transforms import EvalTransform, TrainTransform, random_flip
from tests.data.images import encode, photograph

IMAGE = photograph(60, 80)
ENCODED = encode(IMAGE, "png")


def rng(seed=0):
    return np.random.default_rng(seed)


def test_flip_mirrors_at_its_probability():
    generator = rng()
    flipped = [
        np.array_equal(random_flip(IMAGE, 0.3, generator), IMAGE[:, ::-1]) for _ in range(2000)
    ]
    assert abs(np.mean(flipped) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    np.testing.assert_array_equal(random_flip(IMAGE, 0.0, generator), IMAGE)
    np.testing.assert_array_equal(random_flip(IMAGE, 1.0, generator), IMAGE[:, ::-1])


def test_one_channel_is_pillows_grey():
    rgb = EvalTransform(CenterCrop(32))(ENCODED)
    assert np.ptp(rgb, axis=-1).any()
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    for transform, arguments in (
        (EvalTransform(CenterCrop(32), channels=1), ()),
        (TrainTransform(RandomResizedCrop(32), channels=1), (rng(),)),
    ):
        found = transform(ENCODED, *arguments)
        assert (found.shape, found.dtype) == ((32, 32, 1), np.uint8)
        if not arguments:
            np.testing.assert_array_equal(found[..., 0], grey)
    # A grey image goes through all that is done to it as it is.
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = TrainTransform(PaddedCrop(16, 0), 0.0, channels=1)(encode(levels, "png", "L"), rng())
    np.testing.assert_array_equal(found[..., 0], levels)


@pytest.mark.parametrize("crop", [RandomResizedCrop(32), PaddedCrop(32)])
def test_training_is_crop_then_flip_then_rand_augment(crop):
    transform = TrainTransform(crop, 0.5, RandAugment(num_layers=3))
    for seed in range(8):
        generator = rng(seed)
        expected = crop(EncodedImage(ENCODED), generator)
        expected = random_flip(expected, 0.5, generator)
        expected = RandAugment(num_layers=3)(expected, generator)
        found = transform(ENCODED, rng(seed))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
        again = pickle.loads(pickle.dumps(transform))(ENCODED, rng(seed))
        np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize(
    ("size", "augment", "expected"),
    [
        (32, {}, TrainTransform(PaddedCrop(32, 4), 0.5)),
        (33, {}, TrainTransform(RandomResizedCrop(33), 0.5)),
        (32, {"crop": "random_resized"}, TrainTransform(RandomResizedCrop(32), 0.5)),
        (64, {"crop": "padded", "crop_padding": 8}, TrainTransform(PaddedCrop(64, 8), 0.5)),
        (
            224,
            {"rand_augment_layers": 2, "flip_prob": 0.0, "crop_area": (0.2, 1.0)},
            TrainTransform(RandomResizedCrop(224, (0.2, 1.0)), 0.0, RandAugment()),
        ),
    ],
)
def test_configuration_decides_on_training(size, augment, expected):
    config = Config(data=DataConfig(image_size=size), augment=AugmentConfig(**augment))
    assert make_train_transform(config) == expected


def test_fill_is_the_mean_colour():
    config = Config(
        data=DataConfig(mean=(0.1, 0.5, 1.0)), augment=AugmentConfig(rand_augment_layers=1)
    )
    assert make_train_transform(config).rand_augment.fill == (26, 128, 255)
    config.data.mean = (0.485, 0.456, 0.406)
    assert make_train_transform(config).rand_augment.fill == (124, 116, 104)


@pytest.mark.parametrize(
    ("size", "crop_pct", "expected"), [(32, None, 1.0), (224, None, 0.875), (32, 0.9, 0.9)]
)
def test_configuration_decides_on_evaluation(size, crop_pct, expected):
    config = Config(data=DataConfig(image_size=size, crop_pct=crop_pct))
    assert make_eval_transform(config) == EvalTransform(CenterCrop(size, expected))


def test_evaluation_of_the_right_size_is_the_image_itself():
    image = photograph(32, 32)
    transform = make_eval_transform(Config(data=DataConfig(image_size=32)))
    np.testing.assert_array_equal(transform(encode(image, "png")), image)
