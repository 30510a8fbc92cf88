"""Kills one run again and again, some of the times while it saves, and compares its end.

    make torture

A small network is trained twice: undisturbed, and with SIGKILL at random moments, started again
after each. Both must end with the same bits in parameters, statistics and optimizer state, and with
the same lines in `metrics.jsonl`; no kill may cost more than the steps since the last save. Says
for each kill what it cost and how long it took to train again.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from shunted_jax.commands.prepare import prepare_digits
from shunted_jax.reporting.metrics_files import read_metrics
from tests.support.small_run import SmallRuns, assert_same_end, learned, saved_steps

SAVE_EVERY = 10


def newest(workdir: Path) -> int:
    """Returns the step of the newest checkpoint, 0 where there is none."""
    return (saved_steps(workdir) or [0])[-1]


def last_logged(workdir: Path) -> int:
    """Returns the last step in `metrics.jsonl`, 0 where there is none."""
    records = read_metrics(workdir / "metrics.jsonl")
    return records[-1]["step"] if records else 0


class Torture:
    """Kills a run and keeps the score.

    Attributes:
        killed: how many times.
        lost: how many steps each kill cost: those logged that had to be made again.
    """

    def __init__(self, runs: SmallRuns, workdir: Path, length: list[str], seed: int):
        """Does nothing yet; seed decides the moments."""
        self._runs, self._workdir, self._length = runs, workdir, length
        self._random = random.Random(seed)
        self.killed = 0
        self.lost: list[int] = []

    def kill(self) -> bool:
        """Starts the run and kills it; returns False where it came to its end first."""
        before, started = newest(self._workdir), time.monotonic()
        process = self._runs.start(self._workdir, *self._length)
        moment = self._random.choice(("starting", "training", "training", "saving", "saving"))
        if moment == "starting":
            time.sleep(self._random.uniform(0, 8))
            recovery = ""
        else:
            # Until it has saved once more; then on, or into the middle of the next save.
            self._wait(lambda: newest(self._workdir) > before, process)
            recovery = f", trained again after {time.monotonic() - started:.1f} s"
            if moment == "training":
                time.sleep(self._random.uniform(0, 1))
            else:
                self._wait(self._is_saving, process)
                time.sleep(self._random.uniform(0, 0.1))
        # Before it is open again, the folder has what the kill before left.
        doing = "saving" if moment != "starting" and self._is_saving() else moment
        committed = newest(self._workdir)
        if process.poll() is not None:
            process.communicate()
            return False
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.killed += 1
        after, logged = newest(self._workdir), last_logged(self._workdir)
        assert after >= committed, f"step {committed} was saved, and {after} is the newest now"
        self.lost.append(max(0, logged - after))
        assert self.lost[-1] <= 2 * SAVE_EVERY, f"{self.lost[-1]} steps are lost"
        print(
            f"kill {self.killed}: while {doing}, step {logged} logged, "
            f"{after} saved: {self.lost[-1]} steps lost{recovery}",
            flush=True,
        )
        return True

    def _is_saving(self) -> bool:
        return any("tmp" in path.name for path in (self._workdir / "checkpoints").glob("*"))

    def _wait(self, condition, process) -> None:
        while not condition() and process.poll() is None:
            time.sleep(0.002)
        if process.poll() not in (None, 0):
            raise AssertionError(process.communicate()[1])


def torture(folder: Path, data_dir: str, kills: int, epochs: int, seed: int) -> list[int]:
    """Runs undisturbed and disturbed, compares, and returns how many steps each kill cost."""
    runs = SmallRuns(folder, data_dir)
    length = [
        f"--config.epochs={epochs}",
        f"--config.save_every_steps={SAVE_EVERY}",
        f"--config.eval_every_epochs={epochs / 4:g}",
    ]
    whole, parts = folder / "whole", folder / "parts"
    status, said = runs.run(whole, *length, timeout=1800)
    assert status == 0, said
    print(f"undisturbed: {newest(whole)} steps", flush=True)
    test = Torture(runs, parts, length, seed)
    while test.killed < kills:
        assert test.kill(), f"the run ended after {test.killed} kills: give it more --epochs"
    status, said = runs.run(parts, *length, timeout=1800)
    assert status == 0, said
    assert_same_end(whole, parts)
    assert learned(read_metrics(whole / "metrics.jsonl")) == learned(
        read_metrics(parts / "metrics.jsonl")
    )
    return test.lost


def main() -> None:
    """Reads the flags and does it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=250, help="of 8 steps")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shunted-jax-torture-") as folder:
        prepare_digits(Path(folder) / "data")
        lost = torture(Path(folder), f"{folder}/data", options.kills, options.epochs, options.seed)
    print(
        f"{len(lost)} kills, {sum(lost)} steps lost in all, {max(lost)} at most, "
        f"{time.monotonic() - started:.0f} s: the end is the same bit for bit"
    )


if __name__ == "__main__":
    sys.exit(main())
