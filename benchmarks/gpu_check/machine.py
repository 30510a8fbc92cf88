"""What there is, and its ceilings: a copy, a matrix product, and whether cuDNN's attention runs.

Run as `python -m benchmarks.gpu_check.machine`.
"""

import argparse
import importlib.metadata
import platform
import shutil
import subprocess

import jax
import jax.numpy as jnp

from benchmarks.gpu_check.clock import milliseconds
from benchmarks.gpu_check.rows import attempt, begin

_PACKAGES = (
    *("jax", "jaxlib", "jax-cuda13-plugin", "flax", "optax", "orbax-checkpoint", "numpy"),
    *("torch", "triton", "nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-nvcc"),
)


def main() -> None:
    """Writes a row for each of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    begin()
    with attempt(what="versions") as figures:
        figures |= {"python": platform.python_version()}
        figures |= {name: _version(name) for name in _PACKAGES}
    with attempt(what="device") as figures:
        device = jax.devices()[0]
        figures |= {"platform": device.platform, "kind": device.device_kind, "smi": _smi()}
        figures |= {"GiB": (device.memory_stats() or {}).get("bytes_limit", 0) / 2**30}
    side = 256 if small else 8192
    key = jax.random.key(0)
    with attempt(what="copy") as figures:
        x = jax.random.normal(key, (side * side * (1 if small else 16),), jnp.bfloat16)
        ms = milliseconds(jax.jit(lambda x: x * 2), x)
        figures["terabytes_per_second"] = 2 * x.nbytes / ms / 1e9
        del x
    with attempt(what="bfloat16 product") as figures:
        a = jax.random.normal(key, (side, side), jnp.bfloat16)
        figures["teraflops"] = 2 * side**3 / milliseconds(jax.jit(jnp.matmul), a, a) / 1e9
    # JAX refuses the gradients of odd lengths; the network's operation makes them even.
    for queries, keys in ((64, 64), (784, 50)):
        with attempt(what=f"cuDNN attention, {queries} queries, {keys} keys") as figures:
            q = jax.random.normal(key, (8, queries, 2, 32), jnp.bfloat16)
            k = jax.random.normal(key, (8, keys, 2, 32), jnp.bfloat16)
            figures["ms"] = milliseconds(jax.jit(_cudnn_attention), q, k, k)
        with attempt(what=f"its gradients, {queries} queries, {keys} keys") as figures:
            gradients = jax.grad(lambda q, k, v: _cudnn_attention(q, k, v).sum(), (0, 1, 2))
            figures["ms"] = milliseconds(jax.jit(gradients), q, k, k)


def _cudnn_attention(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _smi() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    query = "--query-gpu=name,driver_version,memory.total"
    ran = subprocess.run(
        ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, timeout=20
    )
    return ran.stdout.strip()


if __name__ == "__main__":
    main()
