"""What a training step takes and gives back."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from shunted_jax.models import ShuntedTransformer


@struct.dataclass
class TrainState:
    """Arrays only, so that a checkpoint holds all of it; immutable.

    Attributes:
        step: int32 [], the number of updates made.
        params: the trainable parameters.
        batch_stats: the running statistics of batch norm.
        opt_state: the optimizer's.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The collections that `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    model: ShuntedTransformer, tx: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """Returns the state before the first step; pure, to be jitted straight into its shards.

    Args:
        model: the network.
        tx: the optimizer.
        key: decides the initial parameters.
    """
    side = model.min_image_size  # parameters do not depend on the size: the smallest is quickest
    images = jnp.zeros((1, side, side, model.in_channels))
    variables = model.init(key, images)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=tx.init(variables["params"]),
    )
