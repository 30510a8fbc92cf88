"""What known accelerators can compute at most: the measure of how well a run uses them.

Peaks are of dense matrix products in bfloat16 with float32 sums (float16 on GPUs that came before
bfloat16), in operations a second, as the makers state them. Where data sheets give figures "with
sparsity", half of them is dense. A device that is not listed has no figure, rather than a guess.
"""

import jax

# A TensorCore's, as `device.num_cores` says how many of its chip's two or one a device has: on v2
# and v3 each is a device of its own, v4 and v5p join both. From cloud.google.com/tpu/docs/v2, v3,
# v4, v5e, v5p, v6e and tpu7x, "peak compute per chip", by the cores that a chip has there.
_TPU_CORE_TFLOPS = {
    "TPU v2": 46 / 2,
    "TPU v3": 123 / 2,
    "TPU v4": 275 / 2,
    "TPU v5 lite": 197,  # v5e
    "TPU v5e": 197,
    "TPU v5": 459 / 2,  # v5p
    "TPU v5p": 459 / 2,
    "TPU v6 lite": 918,  # v6e, Trillium
    "TPU v6e": 918,
    "TPU7x": 2307 / 2,  # Ironwood
}

# GB/s of a chip's memory and how many cores share it, from the same pages.
_TPU_CHIP_GIGABYTES = {
    "TPU v2": (700, 2),
    "TPU v3": (900, 2),
    "TPU v4": (1200, 2),
    "TPU v5 lite": (819, 1),
    "TPU v5e": (819, 1),
    "TPU v5": (2765, 2),
    "TPU v5p": (2765, 2),
    "TPU v6 lite": (1640, 1),
    "TPU v6e": (1640, 1),
    "TPU7x": (7380, 2),
}

# By the name that the driver gives, as `nvidia-smi -L` shows it. Sources, all NVIDIA's: data sheets
# of V100 (2020), T4, A100 (2021: both forms, both memories), L4, H100 (2023), H200 and HGX B200,
# and the white papers of GA102 and Ada for the GeForce cards, whose float32 sums halve the rate.
_GPU_TFLOPS = {
    "Tesla V100-SXM2-16GB": 125,
    "Tesla V100-SXM2-32GB": 125,
    "Tesla V100-PCIE-16GB": 112,
    "Tesla V100-PCIE-32GB": 112,
    "Tesla T4": 65,
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA L4": 121,
    "NVIDIA H100 80GB HBM3": 989.5,  # SXM
    "NVIDIA H100 PCIe": 756.5,
    "NVIDIA H200": 989.5,  # SXM
    "NVIDIA B200": 2250,
    "NVIDIA GeForce RTX 3090": 71,
    "NVIDIA GeForce RTX 4090": 165.2,
}


def peak_flops(device: jax.Device) -> float | None:
    """Returns the operations a second that `device` can do at most; None where it is not known."""
    if device.device_kind in _GPU_TFLOPS:
        return _GPU_TFLOPS[device.device_kind] * 1e12
    of_core, cores = _TPU_CORE_TFLOPS.get(device.device_kind), getattr(device, "num_cores", None)
    return of_core * cores * 1e12 if of_core and cores else None


def peak_bandwidth(device: jax.Device) -> float | None:
    """Returns the bytes a second that a TPU can move to and from its memory; None for others."""
    of_chip, cores_of_chip = _TPU_CHIP_GIGABYTES.get(device.device_kind, (None, 1))
    cores = getattr(device, "num_cores", None)
    return of_chip * 1e9 * cores / cores_of_chip if of_chip and cores else None
