"""How long a step takes: T's training and inference in bfloat16, by one of its two forms."""

import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from benchmarks.tpu_check.networks import Case, case
from benchmarks.tpu_check.rows import Row, attempted
from shunted_jax.tasks import make_task
from shunted_jax.training.devices.sharding import batch_sharding, make_mesh
from shunted_jax.training.step import programs
from shunted_jax.training.step.optimizer import make_optimizer

# Inference first: the longer a program takes to compile, the later.
MODES = ("inference", "training")


def rows(small: bool, compute: str) -> Iterator[Row]:
    """Yields a row for each mode."""
    for mode in MODES:
        of_mode = {"inference": _inference, "training": _training}[mode]
        name = f"{mode}, {compute}"
        yield attempted("steps", name, lambda f=of_mode, n=name: _timed(n, f, case(small, compute)))


def _timed(name: str, make: Callable[..., Callable[[], jax.Array]], of: Case) -> Row:
    device = jax.devices()[0]
    start = time.perf_counter()
    step = make(of, device)
    seen = jax.block_until_ready(step())  # may compile a little, too
    compiled_in = time.perf_counter() - start
    seconds = []
    for _ in range(of.rounds):
        start = time.perf_counter()
        for _ in range(of.steps):
            seen = step()
        jax.block_until_ready(seen)
        seconds.append((time.perf_counter() - start) / of.steps)
    is_finite = bool(np.isfinite(np.asarray(seen, np.float32)).all())
    low, median, high = 1e3 * np.percentile(seconds, [25, 50, 75])
    figures = {
        "milliseconds": median,
        "quartiles": [low, high],
        "images_per_second": of.config.batch_size / median * 1e3,
        "ready_seconds": compiled_in,
        "peak_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
    }
    text = (
        f"{median:.2f} ms ({low:.2f} to {high:.2f}), {figures['images_per_second']:,.0f} images/s, "
        f"ready in {compiled_in:.0f} s"
    )
    if figures["peak_bytes"]:
        text += f", {figures['peak_bytes'] / 1e9:.2f} GB at most"
    if not is_finite:
        text += "; the results are not finite"
    return Row("steps", name, "ok" if is_finite else "wrong", text, figures)


def _programs(of: Case, device: jax.Device) -> programs.Programs:
    task = make_task(of.config, of.model.num_classes)
    mesh = make_mesh(of.config.mesh, [device])
    return programs.make_programs(of.model, make_optimizer(of.config.optimizer, 1e-3), task, mesh)


def _training(of: Case, device: jax.Device) -> Callable[[], jax.Array]:
    """Returns what does a step of the recipe, augmentation included, and returns its loss."""
    of_run = _programs(of, device)
    train_step = programs.lower_train_step(of_run).compile()
    state, key = of_run.init(jax.random.key(0)), jax.random.key(1)
    rng = np.random.default_rng(0)
    batch = {
        name: rng.integers(0, 256, leaf.shape).astype(leaf.dtype)
        for name, leaf in of_run.abstract_batch.items()
    }
    batch = jax.device_put(batch, batch_sharding(make_mesh(of.config.mesh, [device])))

    def step() -> jax.Array:
        nonlocal state
        state, metrics = train_step(state, batch, key)
        return metrics["loss"].total

    return step


def _inference(of: Case, device: jax.Device) -> Callable[[], jax.Array]:
    """Returns what computes a batch's logits."""
    mesh = make_mesh(of.config.mesh, [device])
    variables = _programs(of, device).init(jax.random.key(0)).variables
    shape = (of.config.batch_size, *2 * (of.config.data.image_size,), of.model.in_channels)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    images = jax.device_put(images.astype(of.model.dtype), batch_sharding(mesh))
    apply = jax.jit(programs.traced_under(mesh, of.model.apply))
    compiled = apply.lower(variables, images).compile()
    return lambda: compiled(variables, images)
