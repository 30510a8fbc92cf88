"""How much further from the truth than on a CPU results may be, by platform and dtype.

Tests state what holds on a CPU, and multiply it with what this table has.
"""

from tests.support.platforms import PLATFORM

_TIMES_A_CPUS = {
    ("cpu", "float32"): 1,
    # Products are float32's: tests ask for the precision "highest", which leaves TF32 out. An H200
    # used at most 0.4 of what a CPU may: jax 0.11.2, cuDNN 9.19.
    ("cuda", "float32"): 1,
    # "highest" adds up six products of bfloat16 parts, and leaves out the three smallest ones. No
    # TPU has run this.
    ("tpu", "float32"): 5,
    # Rounding to 8 bits hides all of this.
    ("cpu", "bfloat16"): 1,
    ("cuda", "bfloat16"): 1,
    ("tpu", "bfloat16"): 1,
}


def looser(tolerance: float, dtype: str = "float32") -> float:
    """Returns a CPU's tolerance as it is on the platform that the tests run on.

    Args:
        tolerance: relative or absolute.
        dtype: what is computed in, "float32" or "bfloat16".
    """
    return tolerance * _TIMES_A_CPUS[PLATFORM, dtype]
