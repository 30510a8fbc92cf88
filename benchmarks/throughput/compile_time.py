"""Seconds until the first training step, with an empty and with a filled cache of programs.

    python -m benchmarks.throughput.compile_time --json=docs/compile_time.json

Each start is a process of its own, as a user's is: importing JAX, tracing, compiling
initialisation and training step (the evaluation step waits until it is needed), running both once.
The cold one has an empty `JAX_COMPILATION_CACHE_DIR`, the warm one what the cold one left there:
all programs, those of initialisation take less than the second from which JAX keeps them by itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIANTS = ("shunted_t", "shunted_s", "shunted_b")


def main() -> None:
    """Measures each variant's cold and warm start, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput.compile_time")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--scan", action="store_true", help="with model.scan_blocks")
    parser.add_argument("--json", type=Path, help="where to write the figures as well")
    parser.add_argument("--start", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(_start(arguments.start, arguments.batch, arguments.scan)))
        return
    figures = {}
    print("| model | start | to the first step | tracing | initialisation | training step | run |")
    print("|---|---|---|---|---|---|---|")
    for variant in arguments.variants:
        with tempfile.TemporaryDirectory() as cache:
            for start in ("cold", "warm"):
                seconds = _in_a_process(arguments, variant, cache)
                figures[f"{variant} {start}"] = seconds
                cells = " | ".join(f"{value:.1f} s" for value in seconds.values())
                print(f"| `{variant}` | {start} | {cells} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _in_a_process(arguments: argparse.Namespace, variant: str, cache: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.throughput.compile_time", f"--start={variant}"]
    command += [f"--batch={arguments.batch}", *(["--scan"] if arguments.scan else [])]
    start = time.perf_counter()
    process = subprocess.run(
        command,
        env={
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return {"in all": time.perf_counter() - start, **json.loads(process.stdout)}


def _start(variant: str, batch: int, scan: bool) -> dict[str, float]:
    """Returns the seconds of each part of a training run's start, in this process."""
    import jax
    import numpy as np

    from shunted_jax.config import Config, DataConfig, ModelConfig
    from shunted_jax.tasks import make_task
    from shunted_jax.training.devices.sharding import make_mesh, put_batch
    from shunted_jax.training.step.optimizer import make_optimizer
    from shunted_jax.training.step.programs import lower_train_step, make_programs

    config = Config(
        model=ModelConfig(name=variant, scan_blocks=scan),
        data=DataConfig(image_size=224),
        batch_size=batch,
    )
    mesh = make_mesh(config.mesh)
    seconds, now = {}, time.perf_counter()

    def lap(part: str) -> None:
        nonlocal now
        seconds[part] = time.perf_counter() - now
        now = time.perf_counter()

    task = make_task(config, num_classes=1000)
    tx = make_optimizer(config.optimizer, 1e-3)
    programs = make_programs(task.make_model(), tx, task, mesh)
    lowered = lower_train_step(programs)
    lap("tracing")
    state = jax.block_until_ready(programs.init(jax.random.key(0)))
    lap("initialisation")
    train_step = lowered.compile()
    lap("training step")
    images = np.zeros((batch, 224, 224, 3), np.uint8)
    arrays = put_batch({"image": images, "label": np.zeros(batch, np.int32)}, mesh)
    jax.block_until_ready(train_step(state, arrays, jax.random.key(0)))
    lap("run")
    return seconds


if __name__ == "__main__":
    main()
