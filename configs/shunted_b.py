"""Shunted-B on ImageNet-1k: the published recipe, 300 epochs at 224 pixels, 84.0 % top-1 (paper).

    python train.py --config=configs/shunted_b.py --workdir=runs/shunted_b

Says only what differs from `shunted_t.py`. Where memory is short: `--config.model.remat=True`, or
`--config.accumulate_steps=2`.
"""

from configs import shunted_t
from shunted_jax.config import Config


def get_config() -> Config:
    """Returns the run's configuration."""
    config = shunted_t.get_config()
    config.model.name = "shunted_b"
    config.model.drop_path_rate = 0.3
    config.optimizer.clip_norm = 1.0
    return config
