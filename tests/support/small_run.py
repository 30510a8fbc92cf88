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
from shunted_jax.models import registry
from tests.support.tiny import TWO_STAGES, tiny_config

registry.VARIANTS["tiny"] = TWO_STAGES


def get_config():
    return tiny_config({data_dir!r}, batch_size=8, epochs=300.0, log_every_steps=3)
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
