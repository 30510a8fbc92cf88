"""The same network in PyTorch as a contestant, with the settings that are fastest there."""

import torch
from torch.nn import functional

from benchmarks.throughput.cases import Case
from benchmarks.throughput.contestants import Contestant
from benchmarks.throughput.inputs import draw
from shunted_jax.convert.torch_reference import TorchShunted
from shunted_jax.models.registry import VARIANTS

_MODES = {"CUDA graphs": "reduce-overhead", "max-autotune": "max-autotune"}


def make(case: Case) -> Contestant:
    """Builds the step of a case, on the GPU where there is one; its first run compiles."""
    torch.set_num_threads(case.threads)
    on_gpu, dtype = torch.cuda.is_available(), getattr(torch, case.dtype)
    device = torch.device("cuda" if on_gpu else "cpu")
    # In float32 neither side may take TF32; what stays float32 of a bfloat16 step may on both.
    exact = case.dtype == "float32"
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = True
    layout = torch.channels_last if "channels_last" in case.contestant else torch.contiguous_format
    network = TorchShunted(**VARIANTS[case.variant]).to(device, memory_format=layout)
    images, labels = draw(case)
    batch = torch.tensor(images, device=device).permute(0, 3, 1, 2)
    batch = batch.contiguous(memory_format=layout)
    targets = torch.tensor(labels, device=device)
    compiled = network
    if "compile" in case.contestant:
        compiled = torch.compile(network, mode=_MODES.get(case.contestant.partition(", ")[2]))

    if case.mode == "training":
        network.train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05, fused=True)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype, enabled=not exact):
                loss = functional.cross_entropy(compiled(batch), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    else:
        network.eval().to(dtype)
        batch = batch.to(dtype)

        def step() -> None:
            with torch.inference_mode():
                compiled(batch)

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    kind = torch.cuda.get_device_name() if on_gpu else "cpu"
    # Of its whole life: a graph that is replayed allocates nothing any more.
    peak_bytes = torch.cuda.max_memory_allocated if on_gpu else int
    return Contestant(step, wait, on_gpu, kind, device_bytes=peak_bytes)
