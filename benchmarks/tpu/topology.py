"""TPUs to compile for that are not there: what the installed libtpu knows of them."""

import importlib.util
import os
import warnings

import jax

from shunted_jax.errors import UserError

# Of each chip, the topologies to compile for: one host's, and 256 chips' or the nearest there is.
TOPOLOGIES = {
    "v5e": {"host": "v5e:2x2", "slice": "v5e:16x16"},
    "v5p": {"host": "v5p:2x2x1", "slice": "v5p:4x8x8"},
    "v6e": {"host": "v6e:2x2", "slice": "v6e:16x16"},
}
SCALES = ("chip", "host", "slice")


def prepare() -> None:
    """Sets what libtpu needs where there is no TPU; to be called before JAX asks for a device.

    Raises:
        UserError: libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "compiling for a TPU needs libtpu, which is not installed: pip install "
            f"'jax[tpu]=={jax.__version__}' (no TPU is needed)"
        )
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no cloud to ask what this machine is
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")  # any that there is
    # Without a TPU there is nothing for libtpu's lock file, which a killed run leaves, to guard.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    jax.config.update("jax_platforms", "cpu")


def devices(chip: str, scale: str) -> list[jax.Device]:
    """Returns the devices of a topology, for programs to be compiled for and never run on.

    Args:
        chip: a key of `TOPOLOGIES`.
        scale: one of `SCALES`; "chip" is one chip of a host's.

    Raises:
        UserError: the installed libtpu does not know the chip.
    """
    from jax.experimental import topologies

    name = TOPOLOGIES[chip]["slice" if scale == "slice" else "host"]
    try:
        with warnings.catch_warnings(action="ignore"):  # that this machine has a TPU of no kind
            found = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except Exception as error:  # libtpu's are of several kinds, none of them public
        raise UserError(f"the installed libtpu gives no topology {name}: {error}") from error
    return list(found[:1] if scale == "chip" else found)
