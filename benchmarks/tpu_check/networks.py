"""Which network is checked: T as it is published, or a tiny one to try the check with on a CPU."""

from typing import NamedTuple

import jax.numpy as jnp

from configs import shunted_t
from shunted_jax.config import Config
from shunted_jax.models import ShuntedTransformer, create_model

_CLASSES = 1000
_TINY = {
    "depths": (1, 1),
    "embed_dims": (32, 64),
    "num_heads": (2, 4),
    "mlp_ratios": (4, 2),
    "sr_ratios": (2, 1),
}


class Case(NamedTuple):
    """A network, how it is trained, and how long it is watched."""

    model: ShuntedTransformer
    config: Config
    rounds: int
    steps: int  # of a round


def case(small: bool, compute: str = "auto") -> Case:
    """Returns the network in bfloat16 with T's recipe, computed as `compute` says."""
    config = shunted_t.get_config()
    config.batch_size, config.data.image_size = (8, 32) if small else (64, 224)
    fields = {
        "num_classes": _CLASSES,
        "dtype": jnp.bfloat16,
        "compute": compute,
        "drop_path_rate": config.model.drop_path_rate,
    }
    if small:
        return Case(ShuntedTransformer(**_TINY, **fields), config, rounds=2, steps=1)
    return Case(create_model("shunted_t", **fields), config, rounds=7, steps=10)
