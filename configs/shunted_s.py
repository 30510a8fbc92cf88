"""Shunted-S on ImageNet-1k: the published recipe, 300 epochs at 224 pixels, 82.9 % top-1 (paper).

    python train.py --config=configs/shunted_s.py --workdir=runs/shunted_s

Says only what differs from `shunted_t.py`.
"""

from configs import shunted_t
from shunted_jax.config import Config


def get_config() -> Config:
    """Returns the run's configuration."""
    config = shunted_t.get_config()
    config.model.name = "shunted_s"
    config.model.drop_path_rate = 0.2
    return config
