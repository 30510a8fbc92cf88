"""The network, pure Flax: imports nothing from `data` or `training`."""

from shunted_jax.models.registry import create_model, list_models
from shunted_jax.models.shunted import ShuntedTransformer

__all__ = ["ShuntedTransformer", "create_model", "list_models"]
