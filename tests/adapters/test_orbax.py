"""Of a save that failed, what Orbax's threads repeat is kept quiet, and no other error is."""

import subprocess
import sys

import numpy as np
import orbax.checkpoint as ocp

from shunted_jax.adapters.orbax import COMMITTED, JSON_FILE
from tests.adapters.contract import seen_with

# In a process of its own: what is hushed is so for good.
PROGRAM = """
import asyncio, gc, logging, threading
import tensorstore
from shunted_jax.adapters.orbax import hush_failed_saves

hush_failed_saves()
hush_failed_saves()


promise, future = tensorstore.Promise.new()
loop = asyncio.new_event_loop()

async def write():
    await future

async def fail(error):
    raise error

async def async_serialize_from_host():
    pass

async_serialize_from_host()  # as a write that the failure of another one forestalls

async def start():
    task = loop.create_task(write())
    late = loop.create_task(fail(ValueError("of a write")))
    await asyncio.sleep(0)
    return task

task = loop.run_until_complete(start())
loop.close()
gc.collect()
thread = threading.Thread(target=promise.set_result, args=(None,))  # finds the loop closed
thread.start()
thread.join()

logging.getLogger("asyncio").error("asyncio's own")
logging.getLogger("absl").error("absl's own")

class Unraisable:
    def __del__(self):
        raise RuntimeError("of a thread")

Unraisable()
"""


def test_only_what_repeats_a_failed_save_is_hushed():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for shown in ("asyncio's own", "absl's own", "RuntimeError: of a thread"):
        assert done.stderr.count(shown) == 1
    for hushed in ("of a write", "never retrieved", "Event loop is closed", "never awaited"):
        assert hushed not in done.stderr


# Arrays enough that several writes are under way when the first one fails.
FAILING = """
import resource, sys
import jax, jax.numpy as jnp
from shunted_jax.adapters.orbax import hush_failed_saves
from shunted_jax.checkpoints import Metadata, RunCheckpoints, RunRecord
from shunted_jax.errors import RunError
from shunted_jax.training.step.state import TrainState

if sys.argv[2] == "hushed":
    hush_failed_saves()
noise = jax.random.normal(jax.random.key(0), (30, 2**14))
one = {"one": jnp.ones(4)}
params = {f"{i}": row for i, row in enumerate(noise)}
state = TrainState(jnp.int32(1), params=params, batch_stats=one, opt_state=one)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, resource.RLIM_INFINITY))
try:
    with RunCheckpoints(sys.argv[1], keep=1) as checkpoints:
        checkpoints.save(state, Metadata(model={}, run=RunRecord(config={}, step=1)))
except RunError as error:
    print(error)
"""


def fail_to_save(folder, how):
    done = subprocess.run(
        [sys.executable, "-c", FAILING, str(folder / how), how], capture_output=True, text=True
    )
    assert "File too large; none is saved yet" in done.stdout, done.stderr
    return done.stderr


@seen_with("orbax-checkpoint", "0.12.8", "a failed save was repeated in these words and no others")
def test_a_save_that_fails_is_told_once(tmp_path):
    said = fail_to_save(tmp_path, "as it is")
    assert "ERROR:absl:" in said  # if not, there is nothing to be hushed any more
    assert fail_to_save(tmp_path, "hushed") == ""


@seen_with("orbax-checkpoint", "0.12.8", "an item of JSON was one file of this name")
def test_json_is_where_it_is_looked_for(tmp_path):
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        checkpointer.save(tmp_path / "meta", {"step": 3})
    assert (tmp_path / "meta" / JSON_FILE).read_text() == '{"step": 3}'


@seen_with("orbax-checkpoint", "0.12.8", "a whole checkpoint in a bucket was marked by this file")
def test_whole_checkpoints_are_marked_in_buckets(tmp_path):
    with ocp.Checkpointer(
        ocp.StandardCheckpointHandler(),
        temporary_path_class=ocp.path.atomicity.CommitFileTemporaryPath,
    ) as checkpointer:
        checkpointer.save(tmp_path / "item", {"one": np.ones(4)})
    assert (tmp_path / "item" / COMMITTED).exists()
