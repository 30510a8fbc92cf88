"""Shunted-T on ImageNet-1k: the published recipe, 300 epochs at 224 pixels, 79.8 % top-1 (paper).

    python train.py --config=configs/shunted_t.py --workdir=runs/shunted_t

Needs the data set:
`python -m shunted_jax.commands.prepare imagenet2012 --source DIR --data-dir DIR`.
Any folder tree of images takes its place: `--config.data.dataset=./flowers
--config.data.eval_split=val`.
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
        model=ModelConfig(
            name="shunted_t",
            drop_rate=0.0,
            attn_drop_rate=0.0,
            drop_path_rate=0.1,
            dtype="bfloat16",
        ),
        data=DataConfig(
            dataset="imagenet2012",
            eval_split="validation",
            image_size=224,
            crop_pct=224 / 256,  # the short side to 256, of which the middle 224
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            num_workers=8,  # on each host: as many as it has processors, less one or two
            num_threads=1,  # in each worker; 8 or more where the files are in a bucket
        ),
        augment=AugmentConfig(
            crop="random_resized",
            crop_area=(0.08, 1.0),
            crop_aspect=(3 / 4, 4 / 3),
            flip_prob=0.5,
            repeats=3,
            rand_augment_layers=2,
            rand_augment_magnitude=9.0,
            rand_augment_magnitude_std=0.5,
            rand_augment_prob=0.5,
            erase_prob=0.25,
            erase_area=(0.02, 1 / 3),
            erase_aspect=(0.3, 1 / 0.3),
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
            switch_prob=0.5,
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3,  # 5e-4 for each 512 images of a batch
            warmup_learning_rate=1e-6,
            min_learning_rate=1e-5,
            warmup_epochs=5.0,
            weight_decay=0.05,  # of tensors of rank 2 and up
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-8,
            clip_norm=None,
        ),
        batch_size=1024,
        eval_batch_size=1024,
        epochs=300.0,
        label_smoothing=0.1,
        ema_decay=None,
    )
