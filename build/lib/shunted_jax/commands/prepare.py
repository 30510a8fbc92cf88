"""Prepares a data set on disk, as ArrayRecord files that `tfds.data_source` reads.

    python -m shunted_jax.commands.prepare digits --data-dir data
    python -m shunted_jax.commands.prepare imagenet2012 --source downloads --data-dir data
    python -m shunted_jax.commands.prepare from-tfrecord --source DIR --data-dir data

Interrupted, the last two go on where they were when they are called again.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from shunted_jax.commands.command_line import log_to_stderr
from shunted_jax.data.builders import imagenet, tfrecords
from shunted_jax.data.builders.digits import Digits
from shunted_jax.errors import UserError


def prepare_digits(data_dir: str | os.PathLike | None) -> Path:
    """Writes the `digits` data set, unless it is there already.

    Args:
        data_dir: where tensorflow-datasets keeps its data sets; None takes its default.

    Returns:
        The data set's own folder.
    """
    builder = Digits(data_dir=data_dir, file_format="array_record")
    # Generated into a temporary folder and renamed: an interrupted call leaves no half data set.
    builder.download_and_prepare()
    return Path(builder.data_dir)


def prepare_imagenet2012(
    source: str | os.PathLike, data_dir: str | os.PathLike | None, *, partial: bool = False
) -> Path:
    """Writes the `imagenet2012` data set from ILSVRC2012's archives: see `imagenet.build`."""
    return imagenet.build(source, data_dir, partial=partial)


def convert_tfrecords(source: str | os.PathLike, data_dir: str | os.PathLike) -> Path:
    """Writes a prepared data set of TFRecord files as ArrayRecord: see `tfrecords.convert`."""
    return tfrecords.convert(source, data_dir)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the command line's arguments; `prepare` is the function that does the work."""
    parser = argparse.ArgumentParser(
        prog="python -m shunted_jax.commands.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="dataset", required=True)

    digits = commands.add_parser("digits", help="scikit-learn's 1,797 handwritten digits")
    digits.set_defaults(prepare=prepare_digits)

    ilsvrc = commands.add_parser("imagenet2012", help="ImageNet-1k, from ILSVRC2012's archives")
    archives = " and ".join(imagenet.ARCHIVES.values())
    ilsvrc.add_argument("--source", required=True, help=f"the folder that has {archives}")
    ilsvrc.add_argument(
        "--partial", action="store_true", help="take archives that lack images, or only one of them"
    )
    ilsvrc.set_defaults(prepare=prepare_imagenet2012)

    convert = commands.add_parser("from-tfrecord", help="a data set that is prepared as TFRecord")
    convert.add_argument(
        "--source",
        required=True,
        help="its version's folder, such as ~/tensorflow_datasets/imagenet2012/5.1.0",
    )
    convert.set_defaults(prepare=convert_tfrecords)

    for command in (digits, ilsvrc):
        command.add_argument("--data-dir", help="default: tensorflow-datasets' own")
    convert.add_argument("--data-dir", required=True, help="not the one that --source is in")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = vars(parse(argv))
    dataset, prepare = arguments.pop("dataset"), arguments.pop("prepare")
    try:
        folder = prepare(**arguments)
    except UserError as error:
        print(f"{dataset}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{dataset}: interrupted; the same command goes on", file=sys.stderr)
        return 130
    info = tfds.builder_from_directory(os.fspath(folder)).info
    counts = ", ".join(f"{split.num_examples:,} {name}" for name, split in info.splits.items())
    what = "examples" if dataset == "from-tfrecord" else "images"
    print(f"{info.name}: {counts} {what} in {folder}")
    return 0


if __name__ == "__main__":
    log_to_stderr()
    sys.exit(main())
