"""The GPU to compile for, which is not there: an H100, as h100_sxm.txtpb describes it."""

import importlib.util
import re
from pathlib import Path

import jax

from shunted_jax.adapters.jax import has_cudnn_attention
from shunted_jax.errors import UserError

_DESCRIPTION = (Path(__file__).parent / "h100_sxm.txtpb").read_text()
# Bytes a second of its memory, as NVIDIA publishes it.
BANDWIDTH = int(re.search(r"memory_bandwidth: (\d+)", _DESCRIPTION)[1])


def prepare() -> None:
    """Keeps JAX to the CPU; to be called before it is asked for a device.

    Raises:
        UserError: JAX's plugin for CUDA is not installed, or cuDNN: without it programs hold the
            plain attention.
    """
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        version = jax.__version__
        raise UserError(
            "compiling for a GPU needs JAX's plugin for CUDA, which is not installed: pip install "
            f"jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version} nvidia-cudnn-cu13 "
            "(no GPU is needed)"
        )
    jax.config.update("jax_platforms", "cpu")
    if not has_cudnn_attention():
        raise UserError(
            "compiling for a GPU needs cuDNN, which is not installed: pip install "
            "nvidia-cudnn-cu13 (no GPU is needed)"
        )


def device() -> jax.Device:
    """Returns the GPU, for programs to be compiled for and never run on.

    Raises:
        UserError: the installed JAX does not take the description.
    """
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(
            platform="cuda", target_config=_DESCRIPTION, topology="1x1x1"
        )
    except Exception as error:  # of several kinds, none of them public
        raise UserError(
            f"jax {jax.__version__} makes no GPU of a description, as 0.10.2 and 0.11.2 do: {error}"
        ) from error
    return found.devices[0]
