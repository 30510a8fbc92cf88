"""Shunted Transformer (arXiv 2111.15193) in JAX and Flax Linen."""

from shunted_jax.models import ShuntedTransformer, create_model, list_models

__version__ = "0.1.0"
__all__ = ["ShuntedTransformer", "create_model", "list_models"]
