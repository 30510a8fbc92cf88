"""What the bench lets run in turn: one network in one framework, in a process of its own.

    python -m benchmarks.throughput.contestants '{"contestant": "ours", ...}'

Reads a number of seconds a line, runs the step for so long at least, and answers with a line of
JSON: the seconds it took and the images it did. A process of its own lets each keep its threads and
its memory, and the others' idle ones take no time of it.
"""

import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

OURS = "ours"
TORCH = ("eager", "channels_last", "compile channels_last")
# What more there is to try on a GPU.
TORCH_ON_GPU = (
    "compile",
    "compile channels_last, CUDA graphs",
    "compile channels_last, max-autotune",
)
CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Case:
    """What is run.

    Attributes:
        contestant: `ours`, or one of the names above.
        variant: a name that `create_model` takes.
        mode: "inference", or "training" for a whole step: gradients and AdamW.
        batch: images in a step.
        size: pixels on each side.
        dtype: of the computation, "float32" or "bfloat16".
        threads: of the CPU, on either side.
    """

    contestant: str
    variant: str
    mode: str
    batch: int
    size: int
    dtype: str
    threads: int


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A step that is ready: `step` runs it to its end, `device_bytes` is its memory's peak."""

    step: Callable[[], None]
    device_kind: str
    peak_flops: float | None = None
    device_bytes: Callable[[], int | None] = lambda: None


def make(case: Case) -> Contestant:
    """Builds and compiles the step of a case, on the GPU where there is one."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((case.batch, case.size, case.size, 3), np.float32)
    labels = rng.integers(CLASSES, size=case.batch)
    return (_ours if case.contestant == OURS else _torch)(case, images, labels)


def _ours(case: Case, images: np.ndarray, labels: np.ndarray) -> Contestant:
    import jax
    import jax.numpy as jnp

    from shunted_jax.config import Config, OptimizerConfig
    from shunted_jax.models import create_model
    from shunted_jax.reporting.peaks import peak_flops
    from shunted_jax.tasks import make_task
    from shunted_jax.training.devices.sharding import make_mesh
    from shunted_jax.training.step.optimizer import make_optimizer
    from shunted_jax.training.step.programs import make_programs
    from shunted_jax.training.step.steps import make_update

    device, config = jax.devices()[0], Config(optimizer=OptimizerConfig(clip_norm=1.0))
    # Of float32, PyTorch's products are no other ones either.
    precision = "highest" if case.dtype == "float32" else None
    model = create_model(case.variant, dtype=jnp.dtype(case.dtype), precision=precision)
    tx = make_optimizer(config.optimizer, 1e-3)
    task = make_task(config, CLASSES)
    programs = make_programs(model, tx, task, make_mesh(config.mesh, [device]))
    state = programs.init(jax.random.key(0))
    if case.mode == "training":
        update = jax.jit(make_update(model, tx, task), donate_argnums=0)
        targets = jax.nn.one_hot(labels, CLASSES)
        batch = jnp.asarray(images)

        def step():
            nonlocal state
            state, metrics = update(state, batch, targets, jax.random.key(0))
            jax.block_until_ready((state, metrics))

    else:
        variables = jax.tree.map(lambda leaf: leaf.astype(case.dtype), state.variables)
        apply, batch = jax.jit(model.apply), jnp.asarray(images, case.dtype)

        def step():
            jax.block_until_ready(apply(variables, batch))

    def peak_bytes() -> int | None:
        return (device.memory_stats() or {}).get("peak_bytes_in_use")

    return Contestant(step, device.device_kind, peak_flops(device), peak_bytes)


def _torch(case: Case, images: np.ndarray, labels: np.ndarray) -> Contestant:
    import torch
    from torch.nn import functional

    from shunted_jax.models.registry import VARIANTS
    from tests.torch_reference import TorchShunted

    torch.set_num_threads(case.threads)
    on_gpu, dtype = torch.cuda.is_available(), getattr(torch, case.dtype)
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.set_float32_matmul_precision("highest" if case.dtype == "float32" else "high")
    layout = torch.channels_last if "channels_last" in case.contestant else torch.contiguous_format
    network = TorchShunted(**VARIANTS[case.variant]).to(device, memory_format=layout)
    batch = torch.tensor(images, device=device).permute(0, 3, 1, 2)
    batch = batch.contiguous(memory_format=layout)
    targets = torch.tensor(labels, device=device)
    compiled = network
    if "compile" in case.contestant:
        modes = {"CUDA graphs": "reduce-overhead", "max-autotune": "max-autotune"}
        mode = modes.get(case.contestant.partition(", ")[2])
        compiled = torch.compile(network, mode=mode)

    if case.mode == "training":
        network.train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05, fused=True)

        def run():
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype, enabled=case.dtype != "float32"):
                loss = functional.cross_entropy(compiled(batch), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    else:
        network.eval().to(dtype)
        batch = batch.to(dtype)

        def run():
            with torch.inference_mode():
                compiled(batch)

    def step():
        run()
        if on_gpu:
            torch.cuda.synchronize()

    kind = torch.cuda.get_device_name() if on_gpu else "cpu"
    return Contestant(step, kind, device_bytes=torch.cuda.max_memory_allocated if on_gpu else int)


def main() -> None:
    """Serves one case on standard input and output."""
    case = Case(**json.loads(sys.argv[1]))
    contestant = make(case)
    start = time.perf_counter()
    for _ in range(2):  # the first call compiles
        contestant.step()
    ready = {
        "compile_seconds": time.perf_counter() - start,
        "device": contestant.device_kind,
        "peak_flops": contestant.peak_flops,
    }
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        start, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - start < float(line):
            contestant.step()
            steps += 1
        answer = {
            "seconds": time.perf_counter() - start,
            "images": steps * case.batch,
            # Of the whole process where the device has no memory of its own.
            "peak_bytes": contestant.device_bytes()
            or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
