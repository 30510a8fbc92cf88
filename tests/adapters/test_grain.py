"""Grain's data sets with ours among them: the numbers that a run draws must stay what they were."""

import pickle
import subprocess
import sys

import grain.python as grain

from shunted_jax.adapters.grain import InARow
from tests.adapters.contract import seen_with

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
from multiprocessing import resource_tracker
from shunted_jax.adapters.grain import start_helper_of_workers

def held_back():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    resource_tracker.ensure_running()  # as starting a worker does
    return signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])

first = held_back()
start_helper_of_workers()
print(first, held_back())
"""


def test_helper_that_runs_already_leaves_signals_held_back():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    # If the first one is true as well, Python needs no help any more.
    assert done.stdout == "False True\n", done.stderr
