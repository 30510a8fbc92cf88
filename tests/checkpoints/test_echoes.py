"""Of a save that failed, what Orbax's threads repeat is kept quiet, and no other error is."""

import subprocess
import sys

# In a process of its own: what is hushed is so for good.
PROGRAM = """
import asyncio, gc, logging, threading
import tensorstore
from shunted_jax.checkpoints import echoes

echoes.hush()
echoes.hush()  # as several processes do once they are connected


promise, future = tensorstore.Promise.new()
loop = asyncio.new_event_loop()

async def write():
    await future

async def fail(error):
    raise error

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
    for hushed in ("of a write", "never retrieved", "Event loop is closed"):
        assert hushed not in done.stderr
