"""What a training step takes and gives back."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
    """Arrays only, so that a checkpoint holds all of it; immutable.

    Attributes:
        step: int32 [], the number of updates made.
        params: the trainable parameters.
        batch_stats: the running statistics of batch norm.
        opt_state: the optimizer's.
        ema_params: the parameters' moving average; None where none is kept.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The collections that `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def averaged_variables(self) -> dict[str, Any]:
        """The same with averaged parameters; batch norm's statistics are averages as they are."""
        return {"params": self.ema_params, "batch_stats": self.batch_stats}


def state_of(
    variables: dict[str, Any], tx: optax.GradientTransformation, *, with_ema: bool = False
) -> TrainState:
    """Returns the state before the first step, of variables that there are; pure."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=tx.init(variables["params"]),
        # Arrays of their own: a step is given both to use up.
        ema_params=jax.tree.map(jnp.copy, variables["params"]) if with_ema else None,
    )
