"""A whole run on the digits: data, training, evaluation, checkpoints.

Run as `python -m benchmarks.gpu_check.digits`.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu_check.rows import begin, row

_NEEDED = (
    *("tensorflow_datasets", "grain", "array_record", "simplejpeg", "google_crc32c"),
    *("importlib_resources", "ml_collections", "tensorboardX", "sklearn", "matplotlib"),
)
_SHORT = ("--config.epochs=0.1", "--config.optimizer.warmup_epochs=0")


def main() -> None:
    """Writes a row with the last figures of the run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    begin()
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        row(skipped=f"not installed: {', '.join(missing)}; make gpu-wheels fetches them")
        return
    with tempfile.TemporaryDirectory() as folder:
        data, run = f"{folder}/data", f"{folder}/run"
        prepare = ["-m", "shunted_jax.commands.prepare", "digits", "--data-dir", data]
        row(what="prepared", seconds=_seconds(prepare))
        train = ["train.py", "--config=configs/digits.py", f"--workdir={run}"]
        train += [f"--config.data.data_dir={data}", *(_SHORT if small else ())]
        seconds = _seconds(train)
        lines = Path(run, "metrics.jsonl").read_text().splitlines()
        last = {}
        for line in lines:
            last |= json.loads(line)
        row(what="trained", seconds=seconds, metrics=last)


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    ran = subprocess.run([sys.executable, *arguments], stdout=sys.stderr)
    if ran.returncode:
        sys.exit(ran.returncode)  # what it said last is why
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
