"""`train.py` on a network that compiles in seconds, as processes that can be killed."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

REPOSITORY = Path(__file__).parents[2]

_CONFIG = """
from shunted_jax.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimizerConfig
from shunted_jax.models import registry

registry.VARIANTS["tiny"] = {{
    "depths": (1, 1),
    "embed_dims": (8, 16),
    "num_heads": (2, 2),
    "mlp_ratios": (2, 2),
    "sr_ratios": (2, 1),
}}


def get_config():
    return Config(
        model=ModelConfig(name="tiny", drop_path_rate=0.1),
        data=DataConfig(
            dataset="digits",
            data_dir={data_dir!r},
            train_split="train[:64]",
            eval_split="test[:16]",
            image_size=32,
            num_threads=1,
        ),
        augment=AugmentConfig(crop_padding=2, flip_prob=0.0),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_epochs=0.5),
        batch_size=8,
        eval_batch_size=16,
        log_every_steps=3,
    )
"""


class SmallRuns:
    """Starts runs of one configuration; its 8 steps an epoch take some hundredths of a second."""

    def __init__(self, folder: Path, data_dir: str):
        """Writes the configuration into `folder`, which exists; runs go there, too."""
        self.folder = folder
        self.config = folder / "small.py"
        self.config.write_text(_CONFIG.format(data_dir=data_dir))
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": "--xla_backend_optimization_level=0 "
            "--xla_llvm_disable_expensive_passes=true",
        }

    def start(self, workdir: Path, *arguments: str) -> subprocess.Popen:
        """Starts `train.py`, in a process group of its own."""
        return subprocess.Popen(
            [
                sys.executable,
                str(REPOSITORY / "train.py"),
                f"--config={self.config}",
                f"--workdir={workdir}",
                *arguments,
            ],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, workdir: Path, *arguments: str, timeout: int = 300) -> tuple[int, str]:
        """Returns the status and what was said of a run to its end."""
        process = self.start(workdir, *arguments)
        _, said = process.communicate(timeout=timeout)
        return process.returncode, said


def saved_steps(workdir: Path) -> list[int]:
    """Returns the steps of a run's checkpoints, oldest first."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def saved_arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Returns all arrays of a checkpoint by their paths, read without this project's code."""
    arrays = {}
    with ocp.PyTreeCheckpointer() as checkpointer:
        for item in sorted((workdir / "checkpoints" / str(step)).glob("*")):
            if not (item / "_METADATA").exists():
                continue  # JSON
            tree = checkpointer.metadata(item).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            restored = checkpointer.restore(item, restore_args=as_numpy)
            for path, leaf in jax.tree_util.tree_leaves_with_path(restored):
                arrays[item.name + jax.tree_util.keystr(path)] = leaf
    return arrays


def assert_same_end(one: Path, other: Path) -> None:
    """Asserts that two runs' newest checkpoints hold the same bits."""
    assert saved_steps(one)[-1] == saved_steps(other)[-1]
    first, second = (saved_arrays(path, saved_steps(path)[-1]) for path in (one, other))
    assert first.keys() == second.keys()
    assert len(first) > 50
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        assert array.tobytes() == second[name].tobytes(), name


def learned(records: list[dict]) -> list[dict]:
    """Returns the records of a `metrics.jsonl` without what was measured of the machine."""
    kept = ("train/", "eval/", "eval_ema/", "data/")
    return [
        {n: value for n, value in record.items() if n == "step" or n.startswith(kept)}
        for record in records
    ]
