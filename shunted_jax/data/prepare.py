"""Prepares a data set on disk, as ArrayRecord files that `tfds.data_source` reads.

python -m shunted_jax.data.prepare digits --data-dir data
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from shunted_jax.data.builders.digits import Digits


def prepare_digits(data_dir: str | os.PathLike | None) -> Path:
    """Writes the `digits` data set, unless it is there already.

    Args:
        data_dir: where tensorflow-datasets keeps its data sets; None takes its default.

    Returns:
        The data set's own folder.
    """
    builder = Digits(data_dir=data_dir, file_format="array_record")
    # Generated into a temporary folder and renamed: an interrupted call leaves no half data set.
    with _offline():
        builder.download_and_prepare()
    return Path(builder.data_dir)


@contextlib.contextmanager
def _offline():
    # Before it writes, tensorflow-datasets asks its bucket for ready-made metadata of the name,
    # which on a machine without a network is a long wait for nothing.
    gcs = tfds.core.utils.gcs_utils
    before, gcs._is_gcs_disabled = gcs._is_gcs_disabled, True
    try:
        yield
    finally:
        gcs._is_gcs_disabled = before


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shunted_jax.data.prepare", description=__doc__)
    commands = parser.add_subparsers(dest="dataset", required=True)
    digits = commands.add_parser("digits", help="scikit-learn's 1,797 handwritten digits")
    digits.add_argument("--data-dir", help="default: tensorflow-datasets' own")
    arguments = parser.parse_args(argv)
    folder = prepare_digits(arguments.data_dir)
    info = tfds.builder_from_directory(os.fspath(folder)).info
    counts = ", ".join(f"{split.num_examples:,} {name}" for name, split in info.splits.items())
    print(f"{arguments.dataset}: {counts} images in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
