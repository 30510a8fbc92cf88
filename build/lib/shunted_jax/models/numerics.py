"""How a module computes, as opposed to what: no field here changes what parameters mean."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Numerics:
    """What every module of a network is given alike.

    Attributes:
        dtype: of the computation.
        param_dtype: of the parameters.
        compute: which form of a computation runs, see `ShuntedTransformer.compute`.
        precision: of products, see `ShuntedTransformer.precision`.
    """

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    compute: str = "auto"
    precision: jax.lax.PrecisionLike = None

    @property
    def dtypes(self) -> dict[str, Any]:
        """The two dtypes, as Flax's own layers take them."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    @property
    def of_dense(self) -> dict[str, Any]:
        """The dtypes and the precision, as `nn.Dense` takes them."""
        return {**self.dtypes, "precision": self.precision}
