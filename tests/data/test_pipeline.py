"""Which examples a batch holds: a pure function of seed and step, every example counted once."""

import collections
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shunted_jax.config import AugmentConfig, Config, DataConfig
from shunted_jax.data.pipeline import eval_batches, train_batches
from shunted_jax.data.sources import Source, open_source
from tests.data.images import write_tree

RAND_AUGMENT = {"rand_augment_layers": 2}


@pytest.fixture(scope="module")
def source(digits_dir):
    """Returns 50 examples whose labels are their numbers, so that batches tell which they hold."""
    digits = open_source("digits", "train[:50]", digits_dir)
    examples = [{**digits.examples[i], "label": i} for i in range(len(digits))]
    return Source(examples, tuple(str(i) for i in range(50)))


def make_config(*, seed=0, augment=None, **data):
    return Config(
        data=DataConfig(image_size=32, **data),
        augment=AugmentConfig(**{"crop_padding": 3} | (augment or {})),
        batch_size=12,
        seed=seed,
    )


def take(source, count, config=None, **place):
    batches = train_batches(source, config or make_config(), **place)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return {name: np.concatenate([batch[name] for batch in taken]) for name in taken[0]}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_batches_are_uint8_images_and_int32_labels(source):
    batch = take(source, 1)
    assert batch.keys() == {"image", "label"}
    assert batch["image"].shape == (12, 32, 32, 3)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32


@pytest.mark.parametrize(
    ("size", "hosts"), [(1, 1), (8, 8)], ids=["a batch of one", "one image a host"]
)
def test_a_batch_may_be_of_one_image(source, size, hosts):
    config = make_config(augment=RAND_AUGMENT)
    together = take(source, 2, config)
    config.batch_size = config.eval_batch_size = size
    steps = len(together["label"]) // size
    parts = [
        take(source, steps, config, process_index=host, process_count=hosts)
        for host in range(hosts)
    ]
    for name, rows in together.items():
        assert parts[0][name].shape == (steps, *rows.shape[1:])
        apart = np.stack([part[name] for part in parts], axis=1)
        np.testing.assert_array_equal(apart.reshape(rows.shape), rows)
    late = take(source, 1, config, start_step=steps - 1, process_count=hosts)
    np.testing.assert_array_equal(late["label"], parts[0]["label"][-1:])
    labels = [
        row["label"].item()
        for host in range(hosts)
        for row in eval_batches(source, config, process_index=host, process_count=hosts)
        if row["mask"].all()
    ]
    assert sorted(labels) == list(range(50))


def test_grey_is_one_channel(source):
    grey = {"mean": (0.5,), "std": (0.25,)}
    config = make_config(augment=RAND_AUGMENT, **grey)
    config.eval_batch_size = 12
    found, rgb = (take(source, 1, c) for c in (config, make_config(augment=RAND_AUGMENT)))
    assert found["image"].shape == (12, 32, 32, 1)
    # The digits are grey: nothing of what distorts them may leave colours behind, but for the
    # colour that comes in from outside.
    inside = np.ptp(rgb["image"], axis=-1) == 0
    assert inside.mean() > 0.7
    np.testing.assert_array_equal(found["image"][inside][:, 0], rgb["image"][inside][:, 0])
    *_, last = eval_batches(source, config)
    assert last["image"].shape == (12, 32, 32, 1)
    assert last["mask"].sum() == 50 % 12
    assert not last["image"][~last["mask"]].any()


def test_every_epoch_is_another_permutation(source):
    labels = take(source, 25)["label"]  # six epochs of 50
    epochs = labels.reshape(6, 50)
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


@pytest.mark.parametrize("repeats", [2, 3, 7])
def test_repeated_augmentation_takes_each_image_so_many_times_in_a_row(source, repeats):
    config = make_config(augment={"repeats": repeats})
    epochs = take(source, 25, config)["label"].reshape(6, 50)
    plain = take(source, 25)["label"].reshape(6, 50)
    for epoch, order in zip(epochs, plain, strict=True):
        expected = np.repeat(order, repeats)[:50]  # an epoch is as long as ever
        np.testing.assert_array_equal(epoch, expected)
        counts = collections.Counter(epoch.tolist())
        assert sorted(counts.values(), reverse=True)[: 50 // repeats] == [repeats] * (50 // repeats)


def test_repeats_are_augmented_differently(source):
    batch = take(source, 1, make_config(augment={"repeats": 12, **RAND_AUGMENT}))
    assert len(set(batch["label"].tolist())) == 1
    assert len({image.tobytes() for image in batch["image"]}) > 8


def test_augmentation_differs_from_epoch_to_epoch_and_example_to_example(source):
    same = Source([source.examples[0]] * 50, source.class_names)
    images = take(same, 25)["image"]
    epochs = images.reshape(6, 50, -1)
    assert len({epoch.tobytes() for epoch in epochs}) == 6
    for epoch in epochs:
        assert len({image.tobytes() for image in epoch}) > 25  # of 98 shifts and flips
    assert len({epochs[i, 0].tobytes() for i in range(6)}) > 1


def test_seed_decides_everything(source):
    assert_same(take(source, 3), take(source, 3))
    assert (take(source, 3)["label"] != take(source, 3, make_config(seed=1))["label"]).any()


@pytest.mark.parametrize("start", [1, 4, 5, 8])  # within an epoch and across its end
def test_starting_late_gives_the_same_batches(source, start):
    config = make_config(augment={"repeats": 3})
    whole = take(source, 10, config)
    late = take(source, 10 - start, config, start_step=start)
    assert_same(late, {name: rows[start * 12 :] for name, rows in whole.items()})


def test_starting_late_reads_nothing_that_lies_before(source):
    read = []

    class Examples(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    counting = Source(Examples(source.examples), source.class_names)
    take(counting, 1, make_config(num_threads=1), start_step=10_000_000)
    assert 12 <= len(read) <= 12 * 4  # its batch, and what is read ahead


@pytest.mark.parametrize("hosts", [2, 3, 4])
def test_hosts_share_the_same_global_batch_in_order(source, hosts):
    config = make_config(augment={"repeats": 2})
    whole = take(source, 2, config, start_step=3)
    shares = [
        take(source, 2, config, start_step=3, process_index=host, process_count=hosts)
        for host in range(hosts)
    ]
    for name, rows in whole.items():
        by_step = [share[name].reshape(2, 12 // hosts, *rows.shape[1:]) for share in shares]
        np.testing.assert_array_equal(np.concatenate(by_step, axis=1).reshape(rows.shape), rows)


@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_change_nothing(source, workers):
    augment = {"repeats": 3, **RAND_AUGMENT}
    place = {"start_step": 2, "process_index": 1, "process_count": 4}
    assert_same(
        take(source, 5, make_config(augment=augment, num_workers=workers), **place),
        take(source, 5, make_config(augment=augment), **place),
    )


@pytest.mark.parametrize("batch_size", [1, 7, 25, 50, 64])
@pytest.mark.parametrize("hosts", [1, 3])
def test_evaluation_sees_every_example_once_in_order(source, batch_size, hosts):
    config = make_config()
    config.eval_batch_size = batch_size * hosts
    per_host = [
        list(eval_batches(source, config, process_index=i, process_count=hosts))
        for i in range(hosts)
    ]
    assert len({len(batches) for batches in per_host}) == 1
    batches = [batch for step in zip(*per_host, strict=True) for batch in step]
    assert {batch["image"].shape for batch in batches} == {(batch_size, 32, 32, 3)}
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    np.testing.assert_array_equal(columns["label"][columns["mask"]], np.arange(50))
    np.testing.assert_array_equal(np.flatnonzero(columns["mask"]), np.arange(50))
    assert not columns["image"][~columns["mask"]].any()


def test_evaluation_with_workers_is_the_same(source):
    def evaluated(workers):
        config = make_config(num_workers=workers)
        config.eval_batch_size = 16
        batches = eval_batches(source, config)
        taken = list(batches)
        batches.close()
        return {name: np.concatenate([batch[name] for batch in taken]) for name in taken[0]}

    assert_same(evaluated(2), evaluated(0))


def test_global_batch_must_be_shared_evenly(source):
    with pytest.raises(ValueError, match="batch of 12 cannot be shared evenly by 5 hosts"):
        take(source, 1, process_count=5)


# What a preempted machine does to a run: SIGTERM for the whole process group.
SCRIPT = """
import os, signal, sys
from absl import flags
from shunted_jax.config import AugmentConfig, Config, DataConfig
from shunted_jax.data import processes
from shunted_jax.data.pipeline import train_batches
from shunted_jax.data.sources import open_source

start_worker = processes.start_worker

def start_held_back(*which):
    held_back = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert {signal.SIGTERM, signal.SIGINT} <= held_back, f"a signal now would end worker {which}"
    start_worker(*which)

if __name__ == "__main__":
    processes.start_worker = start_held_back
    flags.FLAGS.mark_as_parsed()
    source = open_source(sys.argv[1], "train")
    config = Config(
        data=DataConfig(image_size=32, num_workers=2),
        augment=AugmentConfig(crop="random_resized"),
        batch_size=4,
    )
    signal.signal(signal.SIGTERM, lambda *_: None)
    batches = train_batches(source, config)
    for _ in range(20):
        os.killpg(0, signal.SIGTERM)  # while they start, too
        next(batches)
    CLOSE
    print("done")
"""


@pytest.mark.parametrize("close", ["batches.close()", "pass"])
def test_workers_outlive_sigterm_and_leave_without_a_word(tmp_path, close):
    tree = write_tree(tmp_path / "tree", {"train": {"cat": 5, "dog": 4}})
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("CLOSE", close))
    done = subprocess.run(
        [sys.executable, "-W", "default", script, tree],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
    )
    assert done.stdout == "done\n", done.stderr
    assert done.returncode == 0
    assert "leaked" not in done.stderr
    assert "shunted_jax" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
