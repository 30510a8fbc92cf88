"""Whether JAX has the devices that it was told to use."""

import jax

from shunted_jax.errors import UserError, in_a_line


def check_platforms() -> None:
    """Asks JAX for its devices, which takes hold of them.

    Raises:
        UserError: there are none, or none such as `JAX_PLATFORMS` names.
    """
    asked = jax.config.jax_platforms
    try:
        jax.devices()
    except Exception as error:  # an AssertionError without words, for one
        if not asked:
            raise UserError(
                f"JAX finds no devices here ({in_a_line(error)}): mend that, or take the CPU with "
                "JAX_PLATFORMS=cpu"
            ) from error
        reason = f" ({in_a_line(error)})" if str(error) else ""
        raise UserError(
            f"JAX_PLATFORMS={asked}, and JAX has no such devices here{reason}: there is "
            f"{_those_that_are_there()}. Leave the variable out, name another, or install JAX for "
            "these devices, as in pip install 'jax[cuda13]' or 'jax[tpu]'"
        ) from error


def _those_that_are_there() -> str:
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", None)
    try:
        first = jax.devices()[0].platform
    except Exception:  # of a driver that does not fit: the CPU is there all the same
        first = "cpu"
    finally:
        jax.config.update("jax_platforms", before)
    return first if first == "cpu" else f"{first} and cpu"
