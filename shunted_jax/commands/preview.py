"""A look at what the network is trained on: a contact sheet of augmented images, as PNG.

    python -m shunted_jax.commands.preview --config=configs/shunted_t.py
    python -m shunted_jax.commands.preview --config=configs/digits.py --out=digits.png --rows=6

Each row is a batch of its own, mixed as a training batch is; below each image are its labels and
their weights. The order and the random decisions on the host are those of the run's first images.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from shunted_jax.augment.training_batch import Augmented, augment
from shunted_jax.commands import command_line
from shunted_jax.config import Config
from shunted_jax.data.pipeline import train_batches
from shunted_jax.data.sources import open_split
from shunted_jax.errors import UserError
from shunted_jax.platforms import check_platforms
from shunted_jax.reporting.pictures import as_rgb, plot_contact_sheet
from shunted_jax.resources import check_writable, writing_into
from shunted_jax.storage import as_path

DEFAULT_CONFIG = Path("configs/digits.py")
COLUMNS = 8


def write_preview(config: Config, path: Path, rows: int) -> None:
    """Writes the contact sheet of the first `rows` batches of eight training images to `path`.

    Raises:
        UserError: the data set is not there, or has no classes.
    """
    source = open_split(config.data, "train_split")
    names = source.class_names
    device_side = jax.jit(functools.partial(augment, num_classes=len(names), config=config))
    batches = train_batches(source, dataclasses.replace(config, batch_size=COLUMNS))
    images, captions = [], []
    for row in range(rows):
        batch = next(batches)
        key = jax.random.key(config.seed + row)
        augmented = jax.device_get(device_side(key, batch["image"], batch["label"]))
        images.extend(_shown(augmented, config))
        captions.extend(_captions(augmented, [names[label] for label in batch["label"]]))
    batches.close()
    title = f"{config.data.dataset} as trained on: {config.data.image_size} pixels, a batch a row"
    plot_contact_sheet(images, captions, path, title, columns=COLUMNS)


def _shown(augmented: Augmented, config: Config) -> np.ndarray:
    pixels = augmented.images * np.asarray(config.data.std) + np.asarray(config.data.mean)
    return as_rgb(np.clip(np.round(255 * pixels), 0, 255).astype(np.uint8))


def _captions(augmented: Augmented, names: list[str]) -> list[list[str]]:
    kept = float(augmented.kept)
    if kept == 1:
        return [[name] for name in names]
    pairs = zip(names, reversed(names), strict=True)
    return [[f"{kept:.2f} {own}", f"{1 - kept:.2f} {partner}"] for own, partner in pairs]


def main(argv: list[str]) -> None:
    """Runs the command line."""
    del argv
    command_line.log_to_stderr()
    if flags.FLAGS.rows < 1:
        raise UserError(f"--rows={flags.FLAGS.rows}: give at least one")
    config, _ = command_line.config_from_flag("config")
    check_platforms()
    path = as_path(flags.FLAGS.out)
    if path.is_dir():
        raise UserError(f"--out={flags.FLAGS.out} is a folder: name a file in it")
    check_writable(path.parent)
    with writing_into(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_preview(config, path, flags.FLAGS.rows)
    print(f"wrote {path}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file(
        "config", None, "What a run would train on: a file in configs/."
    )
    flags.DEFINE_string("out", "preview.png", "The picture to write.")
    flags.DEFINE_integer("rows", 4, f"How many batches of {COLUMNS} to show.")
    command_line.run(main, default_config=DEFAULT_CONFIG)
