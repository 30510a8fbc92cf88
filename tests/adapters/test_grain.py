"""Grain's data sets with ours among them: the numbers that a run draws must stay what they were."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import grain.python as grain
import numpy as np

from shunted_jax.adapters.grain import BATCHES_OF_A_WORKER, InARow, exit_code_of_worker
from tests.adapters.contract import error_of, seen_with

DRAWN = [(3, 207), (3, 184), (2, 725), (2, 695), (3, 801), (3, 623), (2, 429), (2, 918)]


def draw(index, rng):
    return index, int(rng.integers(1000))


@seen_with("grain", "0.2.18", "a seed, an order and draws were a function of the index alone")
def test_a_seed_gives_the_draws_that_it_gave():
    order = grain.MapDataset.range(4).seed(5).shuffle()
    drawn = InARow(order, 2).repeat().random_map(draw)
    assert [drawn[index] for index in range(8)] == DRAWN
    assert [pickle.loads(pickle.dumps(drawn))[index] for index in (7, 0)] == [DRAWN[7], DRAWN[0]]


@seen_with("grain", "0.2.18", "elements beyond a data set's length were those of its next epochs")
def test_each_epoch_is_as_long_as_ever():
    in_a_row = InARow(grain.MapDataset.range(5).map(str), 2)
    assert len(in_a_row) == 5
    assert [in_a_row[index] for index in range(7)] == ["0", "0", "1", "1", "2", "0", "0"]
    assert list(in_a_row[1:4]) == ["0", "1", "1"]
    assert list(in_a_row.to_iter_dataset()) == ["0", "0", "1", "1", "2"]


# In a process that has none of these helpers yet.
PROGRAM = """
import signal
from multiprocessing import resource_tracker, shared_memory
from shunted_jax.adapters.grain import start_helper_of_workers

def held_back():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    resource_tracker.ensure_running()  # as starting a worker does
    return signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])

first = held_back()
resource_tracker._resource_tracker._stop()
start_helper_of_workers()
print(first, held_back())
# What is left in shared memory is cleared away at the end, without a word.
left = shared_memory.SharedMemory(create=True, size=1)
print(left.name, flush=True)
"""


def test_helper_that_runs_already_leaves_signals_held_back():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    # If the first one is true as well, Python needs no help any more.
    held_back, left = done.stdout.splitlines()
    assert (held_back, done.stderr) == ("False True", "")
    assert not (Path("/dev/shm") / left.strip("/")).exists()


SIZE = 12_345  # of an array, as none beside them has it


def make_or_end(index):
    if index == 15:
        os.kill(os.getpid(), signal.SIGBUS)
    return np.full(SIZE, index, np.uint8)


def shared_arrays():
    """Returns the names of the arrays that lie in shared memory."""
    found = set()
    for path in Path("/dev/shm").glob("psm_*"):
        with contextlib.suppress(FileNotFoundError):  # taken meanwhile
            if path.stat().st_size == SIZE:
                found.add(path.name)
    return found


@seen_with("grain", "0.2.18", "a worker had so many batches ready, and its end was in the words")
def test_what_a_worker_has_ready_and_how_its_end_is_told():
    one_ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    dataset = grain.MapDataset.range(20).map(make_or_end).to_iter_dataset(one_ahead)
    batches = iter(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=1)))
    before = shared_arrays()  # a process that was killed left them
    held = [next(batches)]
    most, end = BATCHES_OF_A_WORKER + len(held), time.monotonic() + 30
    while len(shared_arrays() - before) < most and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)  # for one more, should there be any
    assert len(shared_arrays() - before) == most

    error = error_of(lambda: [held.append(next(batches)) for _ in range(20)])
    batches.close()
    assert exit_code_of_worker(error) == -signal.SIGBUS
    assert exit_code_of_worker(RuntimeError("something else")) is None
