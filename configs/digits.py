"""Shunted-T on scikit-learn's 1,797 handwritten digits: a first run that needs no download.

    python train.py --config=configs/digits.py

Two CPU cores: under three minutes, compilation included. Seed 0 ends with 360 of the 360 test
digits right, seed 1 with 357. The settings were chosen by these same digits, there being no third
split: the score shows that training works, and is no benchmark.

Needs the data set: `python -m shunted_jax.commands.prepare digits --data-dir data`, which
`make demo` runs.
"""

from shunted_jax.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimizerConfig


def get_config() -> Config:
    """Returns the run's configuration."""
    return Config(
        model=ModelConfig(name="shunted_t", drop_path_rate=0.1),
        data=DataConfig(
            dataset="digits",
            data_dir="data",
            image_size=32,  # 8 x 8 pixels, enlarged to the smallest size that the network takes
            mean=(0.31, 0.31, 0.31),  # of the training split
            std=(0.35, 0.35, 0.35),
            num_threads=1,  # decoding is so quick that threads only wait for each other
        ),
        augment=AugmentConfig(crop_padding=3, flip_prob=0.0),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_epochs=1.0),
        batch_size=32,
        eval_batch_size=120,
        epochs=8.0,
        log_every_steps=5,
    )
