"""Networks that compile in seconds, and the run that trains one; tests say what is otherwise."""

import numpy as np
from flax import traverse_util

from shunted_jax.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimizerConfig
from shunted_jax.models.variables import abstract_variables

ONE_STAGE = {
    "depths": (1,),
    "embed_dims": (8,),
    "num_heads": (2,),
    "mlp_ratios": (2,),
    "sr_ratios": (2,),
}
# Attention of both kinds: two groups of heads, then one.
TWO_STAGES = {
    "depths": (1, 1),
    "embed_dims": (8, 16),
    "num_heads": (2, 2),
    "mlp_ratios": (2, 2),
    "sr_ratios": (2, 1),
}


def tiny_config(data_dir, *, model=None, data=None, augment=None, optimizer=None, **changes):
    """Returns the configuration of a run on 64 of the digits, still to be resolved.

    Args:
        data_dir: where the digits lie.
        model, data, augment, optimizer: fields of these sections that are otherwise.
        **changes: other fields that are otherwise.
    """
    of_data = {
        "dataset": "digits",
        "data_dir": data_dir,
        "train_split": "train[:64]",
        "eval_split": "test[:16]",
        "image_size": 32,
        "num_threads": 1,
    }
    of_run = {"batch_size": 16, "eval_batch_size": 16, "epochs": 3.0, "log_every_steps": 2}
    return Config(
        model=ModelConfig(**{"name": "tiny", "drop_path_rate": 0.1} | (model or {})),
        data=DataConfig(**of_data | (data or {})),
        augment=AugmentConfig(**{"crop_padding": 2, "flip_prob": 0.0} | (augment or {})),
        optimizer=OptimizerConfig(**{"warmup_epochs": 0.5} | (optimizer or {})),
        **of_run | changes,
    )


def random_variables(model):
    """Returns variables for a network that no initialiser draws: numpy arrays, compiled by nobody.

    None of them is what it would be in a fresh network, statistics and norms included.
    """
    rng = np.random.default_rng(0)
    drawn = {}
    for at, leaf in abstract_variables(model).items():
        least, most = (0.5, 1.5) if at[-1] in ("var", "scale") else (-0.5, 0.5)
        drawn[at] = rng.uniform(least, most, leaf.shape).astype(leaf.dtype)
    return traverse_util.unflatten_dict(drawn)
