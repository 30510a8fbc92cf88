"""What can be wrong with a configuration: types first, then values that do not fit together.

What concerns the network itself, such as its name, shows where it is built: `tasks/network.py`.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from typing import Any


def problems(config: Any) -> list[str]:
    """Returns a line for each thing that keeps a `config.Config` from being run."""
    of_types = list(_type_problems(config, "config"))
    return of_types or [
        *_model_problems(config.model),
        *_data_problems(config.data),
        *_augment_problems(config.augment),
        *_mesh_problems(config.mesh),
        *_schedule_problems(config),
        *_batch_problems(config),
        *_fine_tuning_problems(config),
        *_range_problems(config),
    ]


def _type_problems(section: Any, path: str) -> Iterator[str]:
    for name, wanted in typing.get_type_hints(type(section)).items():
        value = getattr(section, name)
        if dataclasses.is_dataclass(wanted) and isinstance(value, wanted):
            yield from _type_problems(value, f"{path}.{name}")
        elif not _fits(value, wanted):
            shown = wanted.__name__ if isinstance(wanted, type) else wanted
            yield f"{path}.{name} is {value!r}, and must be of type {shown}"


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(wanted))
    if typing.get_origin(wanted) is tuple:
        item = typing.get_args(wanted)[0]
        return isinstance(value, tuple) and all(_fits(entry, item) for entry in value)
    if wanted in (int, float) and isinstance(value, bool):
        return False  # Python's bool is an int
    return isinstance(value, (int, float) if wanted is float else wanted)


def _model_problems(model: Any) -> Iterator[str]:
    if model.dtype not in ("float32", "bfloat16"):
        yield f"config.model.dtype is {model.dtype!r}, and must be 'float32' or 'bfloat16'"


def _data_problems(data: Any) -> Iterator[str]:
    if not data.dataset:
        yield "config.data.dataset is empty: name a tensorflow-datasets data set"
    if len(data.mean) != 3 or len(data.std) != 3 or min(data.std) <= 0:
        yield (
            f"config.data.mean is {data.mean} and config.data.std {data.std}: give three numbers "
            "each, one a colour channel, std above 0"
        )
    if data.on_bad_image not in ("raise", "skip"):
        yield f"config.data.on_bad_image is {data.on_bad_image!r}, and must be 'raise' or 'skip'"
    if data.crop_pct is not None and not 0 < data.crop_pct <= 1:
        yield f"config.data.crop_pct is {data.crop_pct}, and must be in (0, 1]"


def _augment_problems(augment: Any) -> Iterator[str]:
    if augment.crop not in (None, "random_resized", "padded"):
        yield (
            f"config.augment.crop is {augment.crop!r}, and must be 'random_resized', 'padded' or "
            "None"
        )
    for name in ("crop_area", "crop_aspect", "erase_area", "erase_aspect"):
        limits = getattr(augment, name)
        most = 1 if name.endswith("area") else math.inf
        if len(limits) != 2 or not 0 < limits[0] <= limits[1] <= most:
            yield (
                f"config.augment.{name} is {limits}: give the least and the largest, above 0"
                + (" and at most 1" if most == 1 else "")
            )
    if not 0 <= augment.rand_augment_magnitude <= 10:
        yield (
            f"config.augment.rand_augment_magnitude is {augment.rand_augment_magnitude}, and must "
            "be in [0, 10]"
        )


def _mesh_problems(mesh: Any) -> Iterator[str]:
    sizes = (mesh.data, mesh.fsdp)
    if any(size == 0 or size < -1 for size in sizes) or sizes == (-1, -1):
        yield (
            f"config.mesh.data is {mesh.data} and config.mesh.fsdp {mesh.fsdp}: give numbers of "
            "devices, with -1 for the rest in one of them at most"
        )


def _schedule_problems(config: Any) -> Iterator[str]:
    warmup = config.optimizer.warmup_epochs
    if 0 < config.epochs <= warmup:
        yield (
            f"config.optimizer.warmup_epochs is {warmup}, which leaves nothing of the "
            f"{config.epochs} epochs of config.epochs"
        )


def _batch_problems(config: Any) -> Iterator[str]:
    parts = config.accumulate_steps
    if parts > 0 and config.batch_size % parts:
        yield (
            f"config.accumulate_steps is {parts}, which does not divide config.batch_size="
            f"{config.batch_size}: take a divisor of it"
        )


def _fine_tuning_problems(config: Any) -> Iterator[str]:
    optimizer = config.optimizer
    if optimizer.freeze_backbone and config.init_from is None:
        yield (
            "config.optimizer.freeze_backbone is True, and config.init_from is None: a backbone "
            "that nobody trained is not worth freezing; name the weights to start from"
        )
    if optimizer.freeze_backbone and optimizer.layer_decay != 1:
        yield (
            f"config.optimizer.layer_decay is {optimizer.layer_decay} and freeze_backbone True: "
            "a frozen backbone has no rates to lower; take one of the two"
        )
    if config.init_from == "":
        yield "config.init_from is empty: name the weights to start from, or leave it None"


def _range_problems(config: Any) -> Iterator[str]:
    data, augment, optimizer = config.data, config.augment, config.optimizer
    at_least = {
        "seed": (config.seed, 0),
        "batch_size": (config.batch_size, 1),
        "data.image_size": (data.image_size, 1),
        "eval_batch_size": (config.eval_batch_size, 1),
        "accumulate_steps": (config.accumulate_steps, 1),
        "log_every_steps": (config.log_every_steps, 1),
        "keep_checkpoints": (config.keep_checkpoints, 1),
        "max_bad_steps": (config.max_bad_steps, 0),
        "augment.crop_padding": (augment.crop_padding, 0),
        "augment.repeats": (augment.repeats, 1),
        "augment.rand_augment_layers": (augment.rand_augment_layers, 0),
        "augment.rand_augment_magnitude_std": (augment.rand_augment_magnitude_std, 0),
        "augment.mixup_alpha": (augment.mixup_alpha, 0),
        "augment.cutmix_alpha": (augment.cutmix_alpha, 0),
        "data.num_workers": (data.num_workers, 0),
        "data.num_threads": (data.num_threads, 1),
        "optimizer.weight_decay": (optimizer.weight_decay, 0),
        "optimizer.warmup_epochs": (optimizer.warmup_epochs, 0),
        "optimizer.warmup_learning_rate": (optimizer.warmup_learning_rate, 0),
        "optimizer.min_learning_rate": (optimizer.min_learning_rate, 0),
    }
    for name, (value, least) in at_least.items():
        if value < least:
            yield f"config.{name} is {value}, and must be at least {least}"
    above_zero = {
        "epochs": config.epochs,
        "eval_every_epochs": config.eval_every_epochs,
        "save_every_steps": config.save_every_steps,
        "keep_every_epochs": config.keep_every_epochs,
        "optimizer.learning_rate": optimizer.learning_rate,
        "optimizer.epsilon": optimizer.epsilon,
        "optimizer.clip_norm": optimizer.clip_norm,
        "optimizer.layer_decay": optimizer.layer_decay,
    }
    for name, value in above_zero.items():
        if value is not None and value <= 0:
            yield f"config.{name} is {value}, and must be above 0"
    shares = {
        "label_smoothing": config.label_smoothing,
        "optimizer.beta1": optimizer.beta1,
        "optimizer.beta2": optimizer.beta2,
        "ema_decay": config.ema_decay,
    }
    for name, value in shares.items():
        if value is not None and not 0 <= value < 1:
            yield f"config.{name} is {value}, and must be in [0, 1)"
    if optimizer.layer_decay > 1:
        yield f"config.optimizer.layer_decay is {optimizer.layer_decay}, and must be at most 1"
    for name in ("flip_prob", "rand_augment_prob", "erase_prob", "switch_prob"):
        if not 0 <= getattr(augment, name) <= 1:
            yield f"config.augment.{name} is {getattr(augment, name)}, and must be in [0, 1]"
