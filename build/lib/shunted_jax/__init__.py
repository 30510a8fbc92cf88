"""Shunted Transformer (arXiv 2111.15193) in JAX and Flax Linen."""

from shunted_jax.convert import from_torch, to_torch
from shunted_jax.models import ShuntedTransformer, create_model, list_models
from shunted_jax.pretrained import load_pretrained

__version__ = "0.1.0"
__all__ = [
    "ShuntedTransformer",
    "create_model",
    "from_torch",
    "list_models",
    "load_pretrained",
    "to_torch",
]
