"""What a configuration says of the images: which transforms, with which numbers."""

from shunted_jax.config import Config
from shunted_jax.data.crops import CenterCrop, PaddedCrop, RandomResizedCrop
from shunted_jax.data.rand_augment import RandAugment
from shunted_jax.data.transforms import EvalTransform, TrainTransform

SMALL = 32  # images of up to so many pixels have a recipe of their own, as in the published code


def make_train_transform(config: Config) -> TrainTransform:
    """Returns what `config.data` and `config.augment` say of training images."""
    size, augment = config.data.image_size, config.augment
    if (augment.crop or ("padded" if size <= SMALL else "random_resized")) == "padded":
        crop = PaddedCrop(size, augment.crop_padding)
    else:
        crop = RandomResizedCrop(size, augment.crop_area, augment.crop_aspect)
    rand_augment = RandAugment(
        num_layers=augment.rand_augment_layers,
        magnitude=augment.rand_augment_magnitude,
        magnitude_std=augment.rand_augment_magnitude_std,
        probability=augment.rand_augment_prob,
        fill=tuple(round(255 * mean) for mean in config.data.mean),
    )
    return TrainTransform(
        crop, augment.flip_prob, rand_augment if augment.rand_augment_layers else None
    )


def make_eval_transform(config: Config) -> EvalTransform:
    """Returns what `config.data` says of evaluation images."""
    size, crop_pct = config.data.image_size, config.data.crop_pct
    if crop_pct is None:
        crop_pct = 1.0 if size <= SMALL else CenterCrop.crop_pct
    return EvalTransform(CenterCrop(size, crop_pct))
