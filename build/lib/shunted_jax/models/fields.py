"""What a `ShuntedTransformer` can be built from and called on."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from shunted_jax.retired import COMPUTE, RETIRED

STAGE_FIELDS = ("depths", "embed_dims", "num_heads", "mlp_ratios", "sr_ratios")
PRECISION = ("default", "high", "highest")
_RATE_FIELDS = ("drop_rate", "attn_drop_rate", "drop_path_rate")


def check_fields(model) -> None:
    """Raises ValueError, naming all that is wrong, where fields of `model` do not fit together."""
    problems = [*_count_problems(model), *_rate_problems(model)]
    if model.compute not in COMPUTE:
        problems.append(f"compute is {model.compute!r}, and must be one of {', '.join(COMPUTE)}")
    if model.precision not in (None, *PRECISION, *jax.lax.Precision):
        problems.append(
            f"precision is {model.precision!r}, and must be None or one of {', '.join(PRECISION)}"
        )
    lengths = {name: len(getattr(model, name)) for name in STAGE_FIELDS}
    if len(set(lengths.values())) > 1 or not model.depths:
        said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        problems.append(f"each of these wants one entry a stage, and {said}")
    else:
        problems += _stage_problems(model)
    if problems:
        raise ValueError("this ShuntedTransformer cannot be built: " + "; ".join(problems))


def refuse_retired(names: Iterable[str]) -> None:
    """Raises ValueError for the name of a field that there was, with the one in its place."""
    for name in names:
        if name in RETIRED:
            raise ValueError(f"ShuntedTransformer has no field {name!r} any more: {RETIRED[name]}")


def _count_problems(model):
    for name, least in (("num_stem_convs", 0), ("num_classes", 0), ("in_channels", 1)):
        if getattr(model, name) < least:
            yield f"{name} is {getattr(model, name)}, and must be at least {least}"


def _rate_problems(model):
    for name in _RATE_FIELDS:
        if not 0 <= getattr(model, name) < 1:
            yield f"{name} is {getattr(model, name)}, and must be in [0, 1)"


def _stage_problems(model):
    stages = zip(*(getattr(model, name) for name in STAGE_FIELDS), strict=True)
    for number, (depth, dim, heads, mlp_ratio, sr_ratio) in enumerate(stages, start=1):
        if min(depth, dim, heads, mlp_ratio, sr_ratio) <= 0:
            yield f"stage {number} has a depth, width, head count or ratio that is not positive"
        elif dim % heads:
            yield f"stage {number} is {dim} channels wide, which {heads} heads do not divide"
        elif sr_ratio > 1 and heads % 2:
            yield (
                f"stage {number} has {heads} heads, which cannot be split into as many coarse as "
                f"fine ones (sr_ratio is {sr_ratio}): take an even number"
            )
        elif sr_ratio > 1 and sr_ratio % 2:
            yield f"stage {number} has sr_ratio {sr_ratio}; the fine half is r / 2: take 1 or even"


def check_images(images, in_channels: int, min_image_size: int) -> None:
    """Raises ValueError unless images are [batch, height, width, in_channels] and large enough."""
    if images.ndim != 4:
        raise ValueError(
            f"images have shape {images.shape}, and the network wants rank 4, "
            "[batch, height, width, channels]; for one image, add a batch axis: image[None]"
        )
    if images.shape[-1] != in_channels:
        remedy = (
            "channels come last: transpose with einops.rearrange(images, 'b c h w -> b h w c')"
            if images.shape[1] == in_channels
            else f"convert the images, or build the model with in_channels={images.shape[-1]}"
        )
        raise ValueError(
            f"images have shape {images.shape} with {images.shape[-1]} channels last, and the "
            f"network wants {in_channels}; {remedy}"
        )
    if min(images.shape[1:3]) < min_image_size:
        height, width = images.shape[1:3]
        raise ValueError(
            f"images are {height} x {width} pixels, and the network wants at least "
            f"{min_image_size} x {min_image_size}: resize or pad them"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are {images.dtype}, and the network wants floating point, normalised with the "
            "data set's mean and standard deviation: (images / 255 - mean) / std"
        )
