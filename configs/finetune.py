r"""Shunted-T from converted weights to a folder of photographs, 30 epochs at 288 pixels.

    python convert_weights.py ckpt_T.pth weights/shunted_t
    python train.py --config=configs/finetune.py --config.data.dataset=./flowers

`./flowers` holds train/CLASS/FILE and val/CLASS/FILE; a prepared tensorflow-datasets data set takes
its place by name. `--config.init_from` takes other weights: converted ones, or the folder of a run
trained here, whose best checkpoint is taken. The head is new where the classes are others.

To train the head alone, on a backbone that stays as it is:

    python train.py --config=configs/finetune.py --config.data.dataset=./flowers \
      --config.optimizer.freeze_backbone=True --config.optimizer.layer_decay=1

The numbers are a place to start from, and nobody's published result. The more layers, the nearer to
1 their decay: S and B have 19 and 33 blocks to T's 8.
"""

from shunted_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
)


def get_config() -> Config:
    """Returns the run's configuration."""
    return Config(
        model=ModelConfig(name="shunted_t", drop_path_rate=0.1, dtype="bfloat16"),
        data=DataConfig(
            dataset="./flowers",
            eval_split="val",
            image_size=288,
            crop_pct=224 / 256,
            num_workers=4,
            num_threads=1,
        ),
        augment=AugmentConfig(
            crop="random_resized",
            # The weights know what they look for: smaller pieces would only hide it.
            crop_area=(0.25, 1.0),
            rand_augment_layers=2,
            rand_augment_magnitude=9.0,
            erase_prob=0.25,
        ),
        optimizer=OptimizerConfig(
            learning_rate=2.5e-4,
            warmup_learning_rate=1e-6,
            min_learning_rate=1e-6,
            warmup_epochs=3.0,
            weight_decay=0.05,
            clip_norm=1.0,
            layer_decay=0.8,
        ),
        batch_size=256,
        eval_batch_size=256,
        epochs=30.0,
        label_smoothing=0.1,
        init_from="weights/shunted_t",
    )
