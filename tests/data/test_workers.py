"""The memory that worker processes share: too little is named before, or by what ends them."""

import json
import signal
import sys

import pytest
from absl import flags

from shunted_jax.config import Config, DataConfig
from shunted_jax.data import workers
from shunted_jax.data.workers import check_shared_memory, let_grain_ask_flags, why_gone
from shunted_jax.errors import UserError
from tests.support.mounts import run_with_mounts

IMAGE = 3 * 10 * 10  # bytes


def make_config(**data):
    return Config(data=DataConfig(**{"image_size": 10} | data), batch_size=40, eval_batch_size=20)


@pytest.mark.parametrize(
    ("eval_images", "processes", "training", "images"),
    [
        (1000, 1, True, 11 * 60),  # four a worker and three besides, of each kind
        (1000, 1, False, 11 * 20),
        (1000, 2, True, 11 * 30),
        (21, 1, True, 11 * 40 + 2 * 20),  # the evaluation has no more batches
    ],
)
def test_what_is_needed_is_what_may_be_ready(eval_images, processes, training, images, monkeypatch):
    config = make_config(num_workers=2)

    def check(free):
        usage = type("Usage", (), {"total": 10**6, "free": free, "used": 0})
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
        check_shared_memory(config, eval_images, processes, training=training)

    check(images * IMAGE)
    with pytest.raises(UserError, match="num_workers=1$"):
        check(images * IMAGE - 1)
    with pytest.raises(UserError, match="num_workers=0, which reads by threads$"):
        check(0)
    config.data.num_workers = 0
    check(0)
    config.data.num_workers = 2
    monkeypatch.setattr(workers, "SHARED_MEMORY", "/none")
    check(0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (-signal.SIGBUS, "ended by SIGBUS, as /dev/shm ("),
        (
            -signal.SIGKILL,
            "killed (SIGKILL), as the system does for want of memory: take fewer",
        ),
        (-signal.SIGSEGV, None),
        (1, None),
        (OSError(28, "No space left on device"), "/dev/shm ("),  # of a lock between processes
        (PermissionError(13, "Permission denied", "/data/x.jpg"), None),  # of an image
    ],
)
def test_why_the_workers_are_gone(error, said):
    if isinstance(error, int):
        error = RuntimeError(
            f"Worker process was terminated unexpectedly with exit code {error}. Search the logs"
        )
    reason = why_gone(error)
    assert reason is None if said is None else said in reason


PROGRAM = """
import json, sys
from absl import flags
from shunted_jax.config import Config, DataConfig
from shunted_jax.data.pipeline import train_batches
from shunted_jax.data.sources import open_source
from shunted_jax.data.workers import check_shared_memory
from shunted_jax.errors import RunError, UserError

flags.FLAGS.mark_as_parsed()
if __name__ == "__main__":
    data = DataConfig("digits", sys.argv[1], image_size=64, num_workers=1, num_threads=1)
    config = Config(data=data, batch_size=16, eval_batch_size=16)
    try:
        check_shared_memory(config, 100, training=True)
    except UserError as error:
        before = str(error)
    batches = train_batches(open_source("digits", "train", sys.argv[1]), config)
    try:
        while True:
            next(batches)
    except RunError as error:
        print(json.dumps([before, str(error)]))
    batches.close()
"""


def test_too_little_shared_memory_is_named_with_its_size(digits_dir, tmp_path):
    (tmp_path / "read.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "read.py"), digits_dir]
    done = run_with_mounts({"/dev/shm": "size=300k"}, command)
    before, after = json.loads(done.stdout.splitlines()[-1])
    more = "give the container more (docker run --shm-size={}m, or --ipc=host), or take"
    assert before == (
        "config.data.num_workers is 1, and what these processes have ready takes up to 2.75 MB of "
        "/dev/shm (307 kB, of which 307 kB are free): "
        f"{more.format(3)} --config.data.num_workers=0, which reads by threads"
    )
    assert after.startswith("a process that prepares images was ended by SIGBUS, as /dev/shm (307")
    assert after.endswith(
        f"was full: {more.format(1)} fewer --config.data.num_workers, and start again with the "
        "same --workdir"
    )
    assert "Traceback" not in done.stderr


def test_flags_count_as_parsed_where_nobody_parsed_them():
    # tensorflow#16935: UnparsedFlagAccessError, in Jupyter alone.
    flags.FLAGS.unparse_flags()
    try:
        let_grain_ask_flags()
        assert flags.FLAGS.is_parsed()
        assert not flags.FLAGS.grain_enable_multiprocess_worker_profiling
    finally:
        flags.FLAGS.mark_as_parsed()
