"""The typed configuration of a run: what can be set, and what fits together.

A file in `configs/` returns a `Config`; the command line overrides any field of it
(`--config.optimizer.learning_rate=1e-4`); `resolve` then checks the whole once and freezes it. A
name that does not exist is refused wherever it is set, with the nearest one that does, or with the
one that took its place.
"""

import dataclasses
from typing import Any, Self

from shunted_jax import config_checks
from shunted_jax.errors import UserError, nearest
from shunted_jax.retired import RETIRED


class Section:
    """A group of settings: only its own fields can be set, and none once it is frozen."""

    def __new__(cls, *args: Any, **values: Any) -> Self:  # noqa: D102
        del args
        for name in values:
            cls._refuse_unknown(name)
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse_unknown(name)
        if self.__dict__.get("_frozen"):
            raise AttributeError(f"the configuration is resolved: {name!r} can no longer be set")
        super().__setattr__(name, value)

    @classmethod
    def _refuse_unknown(cls, name: str) -> None:
        if problem := no_field(cls, name):
            raise AttributeError(f"{cls.__name__} has {problem}")


@dataclasses.dataclass
class ModelConfig(Section):
    """The network; its number of classes comes from the data set."""

    name: str = "shunted_t"
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    dtype: str = "float32"  # of the computation in training; evaluation is in float32
    precision: str | None = None  # in training, of float32 products: "high" or "highest"
    compute: str = "auto"  # or "reference": plain JAX; "pallas": TPU kernels, for bfloat16
    remat: bool = False  # compute blocks again for the gradients: less memory, more time
    scan_blocks: bool = False  # a stage's blocks as a loop


@dataclasses.dataclass
class DataConfig(Section):
    """Where the images come from and what happens to them on the host."""

    dataset: str = ""  # a tensorflow-datasets name, a folder ("./flowers") or a table ("x.csv")
    data_dir: str | None = None  # of tensorflow-datasets; None: its own default
    train_split: str = "train"
    eval_split: str = "test"
    allow_empty_classes: bool = False  # of folders without an image, and tables likewise
    image_column: str = "image"  # of a table: a file, with or without its extension
    label_column: str = "label"  # of a table
    split_column: str = "split"  # of a table; without one, all of it is "train"
    image_dir: str | None = None  # where a table's images are; None: beside it
    image_size: int = 224  # pixels, both sides
    crop_pct: float | None = None  # evaluation: of the resized short side; None: 224/256, small: 1
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of pixels in [0, 1]; one number: grey
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    on_bad_image: str = "raise"  # or "skip": what cannot be decoded is replaced and counted
    num_workers: int = 0  # processes that prepare images; 0: threads of this one
    num_threads: int = 4  # that read ahead, in each process; more where reading takes long

    @property
    def channels(self) -> int:
        """How many numbers a pixel has: 3, or 1 where images are taken as grey."""
        return len(self.mean)


@dataclasses.dataclass
class AugmentConfig(Section):
    """What training does to its images; crop and flip alone unless more is asked for."""

    crop: str | None = None  # "random_resized", "padded"; None: padded up to 32 pixels
    crop_area: tuple[float, ...] = (0.08, 1.0)  # random resized: of the image
    crop_aspect: tuple[float, ...] = (3 / 4, 4 / 3)  # random resized: width to height
    crop_padding: int = 4  # padded: by so many pixels, then crop anywhere
    flip_prob: float = 0.5  # mirror left and right
    repeats: int = 1  # each image so many times in a row (repeated augmentation)
    rand_augment_layers: int = 0  # operations an image, of 15; 0: none
    rand_augment_magnitude: float = 9.0  # 0 to 10
    rand_augment_magnitude_std: float = 0.5
    rand_augment_prob: float = 0.5  # of each operation
    erase_prob: float = 0.0  # of a box filled with noise
    erase_area: tuple[float, ...] = (0.02, 1 / 3)  # of the image
    erase_aspect: tuple[float, ...] = (0.3, 1 / 0.3)  # height to width
    mixup_alpha: float = 0.0  # 0: never
    cutmix_alpha: float = 0.0  # 0: never
    switch_prob: float = 0.5  # of cutmix, where both are on


@dataclasses.dataclass
class OptimizerConfig(Section):
    """AdamW with linear warm-up and cosine decay, by step."""

    learning_rate: float = 1e-3  # the peak
    warmup_learning_rate: float = 1e-6  # where warm-up starts
    min_learning_rate: float = 1e-5  # where the cosine ends
    warmup_epochs: float = 5.0
    weight_decay: float = 0.05  # on tensors of rank 2 and up only
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None  # of all gradients together; None: no clipping
    layer_decay: float = 1.0  # of the rate, for each layer below the head; 1: one rate for all
    freeze_backbone: bool = False  # train the head alone, on the backbone as in evaluation


@dataclasses.dataclass
class MeshConfig(Section):
    """Devices along each mesh axis; -1 takes the rest."""

    data: int = -1
    fsdp: int = 1


@dataclasses.dataclass
class Config(Section):
    """One training run."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    batch_size: int = 1024  # global: over all devices of all hosts
    eval_batch_size: int = 1024  # global
    accumulate_steps: int = 1  # parts that a batch's gradients are computed in, one after another
    epochs: float = 300.0
    label_smoothing: float = 0.1
    ema_decay: float | None = None  # of the parameters' moving average, a step; None: no average
    init_from: str | None = None  # converted weights or a run's folder to start from
    seed: int = 0
    log_every_steps: int = 50
    eval_every_epochs: float = 1.0  # also when a checkpoint is saved
    save_every_steps: int | None = None  # also between evaluations; None: only when evaluating
    keep_checkpoints: int = 2  # the newest; the best one is kept besides
    keep_every_epochs: float | None = None  # one of every so many besides; None: no more
    max_bad_steps: int = 0  # to leave out as not finite, in all; 0: the first stops the run


def resolve(config: Config) -> Config:
    """Checks `config` and freezes it in place.

    Returns:
        The same object; setting a field of it raises from now on.

    Raises:
        UserError: wrong types or values that do not fit together; all of them are listed.
    """
    if problems := config_checks.problems(config):
        raise UserError("the configuration cannot be run:\n  " + "\n  ".join(problems))
    for section in (*_sections(config), config):
        section.__dict__["_frozen"] = True
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Returns nested dicts of plain values, as JSON keeps them (tuples as lists)."""
    as_dict = dataclasses.asdict(config)
    for section in as_dict.values():
        if isinstance(section, dict):
            section.update({k: list(v) for k, v in section.items() if isinstance(v, tuple)})
    return as_dict


def no_field(section: type[Section], name: str) -> str | None:
    """Returns "no field NAME" and what to take instead; None where the section has that field."""
    known = [field.name for field in dataclasses.fields(section)]
    if name in known:
        return None
    if issubclass(section, ModelConfig) and name in RETIRED:
        return f"no field {name!r} any more: {RETIRED[name]}"
    return f"no field {name!r}; {nearest(name, known)}"


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "config") -> list[str]:
    """Returns a line for each field whose values differ between two `to_dict` results."""
    old, new = _flat(old, prefix), _flat(new, prefix)
    return [
        f"{name}: {old.get(name)!r} before, {new.get(name)!r} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(nested: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat = {}
    for key, value in nested.items():
        name = f"{prefix}.{key}"
        flat.update(_flat(value, name) if isinstance(value, dict) else {name: value})
    return flat


def _sections(config: Config) -> list[Section]:
    return [value for value in vars(config).values() if isinstance(value, Section)]
