"""The check's parts, each for a process of its own: a compiler that crashes ends that alone.

    python -m benchmarks.tpu_check.parts attention --small

Writes a line of JSON for each row as soon as it is there.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Iterator
from functools import partial

import jax

from benchmarks.tpu_check import correctness, golden, steps
from benchmarks.tpu_check.rows import PARTS, Row
from shunted_jax import __version__
from shunted_jax.ops import pallas

_PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "numpy")


def _device(small: bool) -> Iterator[Row]:
    del small
    device, versions = jax.devices()[0], [f"shunted-jax {__version__}"]
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    versions.append(f"Python {platform.python_version()}")
    text = f"{device.device_kind}, one of {jax.device_count()}; {', '.join(versions)}"
    yield Row("device", device.platform, "", text)


_ROWS = {
    "device": _device,
    "attention": correctness.attention_rows,
    "feed_forward": correctness.feed_forward_rows,
    "golden": golden.rows,
    "steps_auto": partial(steps.rows, compute="auto"),
    "steps_pallas": partial(steps.rows, compute="pallas"),
}


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu_check.parts")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    if arguments.small:
        jax.config.update("jax_platforms", "cpu")
    with pallas.interpreted(arguments.small):
        for row in _ROWS[arguments.part](arguments.small):
            print(json.dumps(dataclasses.asdict(row)), flush=True)


if __name__ == "__main__":
    main()
