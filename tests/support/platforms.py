"""The platform that the tests run on: a CPU that poses as eight devices, or an accelerator."""

import os

import jax
import pytest

_VARIABLE = "SHUNTED_JAX_TEST_PLATFORM"
PLATFORM = os.environ.get(_VARIABLE) or "cpu"

_XLA_FLAGS = {
    # Compiling is most of what the suite does, and takes two thirds of the time without
    # optimisation. The programs that tests start as processes of their own are compiled as users
    # compile them.
    "cpu": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    # Otherwise XLA times several kernels for each matrix product and each convolution, minutes for
    # programs that run once.
    "cuda": "--xla_gpu_autotune_level=0",
    "tpu": "",
}


def use_platform() -> None:
    """Has JAX use the platform that the environment names; before anything asks for a device.

    Raises:
        pytest.UsageError: the name is unknown, or there is no such device.
    """
    if PLATFORM not in _XLA_FLAGS:
        known = ", ".join(_XLA_FLAGS)
        raise pytest.UsageError(f"{_VARIABLE}={PLATFORM} is none of the platforms {known}")
    os.environ.setdefault("XLA_FLAGS", _XLA_FLAGS[PLATFORM])
    if PLATFORM == "cpu":
        # One-device tests use the first of them.
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", 8)
        return
    # Several processes of tests share a GPU; by default the first one takes most of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_platforms", f"{PLATFORM},cpu")  # some tests compare the two
    try:
        jax.devices(PLATFORM)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise pytest.UsageError(
            f"{_VARIABLE}={PLATFORM}, and JAX has no such device here ({reason}): leave the "
            "variable out, or install JAX for it as README.md says"
        ) from None


def skip_without_devices(item: pytest.Item) -> None:
    """Skips a test that is marked with `devices(count)` where there are fewer."""
    mark = item.get_closest_marker("devices")
    if mark is not None and jax.device_count() < mark.args[0]:
        pytest.skip(f"needs {mark.args[0]} devices, and {PLATFORM} has {jax.device_count()} here")
