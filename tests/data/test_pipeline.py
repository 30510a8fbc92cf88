"""Which examples a batch holds: a pure function of seed and step, every example counted once."""

import numpy as np
import pytest

from shunted_jax.data.pipeline import eval_batches, train_batches
from shunted_jax.data.sources import Source, open_source
from shunted_jax.data.transforms import EvalTransform, TrainTransform

EVAL = EvalTransform(32)


@pytest.fixture(scope="module")
def source(digits_dir):
    """Returns 50 examples whose labels are their numbers, so that batches tell which they hold."""
    digits = open_source("digits", "train[:50]", digits_dir)
    examples = [{**digits.examples[i], "label": i} for i in range(len(digits))]
    return Source(examples, tuple(str(i) for i in range(50)))


def take(source, count, transform=None, **arguments):
    transform = transform or TrainTransform(32, crop_padding=3, flip_probability=0.5)
    batches = train_batches(source, transform, **{"batch_size": 12, "seed": 0} | arguments)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return {name: np.concatenate([batch[name] for batch in taken]) for name in taken[0]}


def assert_same(ours, theirs):
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_batches_are_uint8_images_and_int32_labels(source):
    batch = take(source, 1)
    assert batch["image"].shape == (12, 32, 32, 3)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32


def test_every_epoch_is_another_permutation(source):
    labels = take(source, 25)["label"]  # six epochs of 50
    epochs = labels.reshape(6, 50)
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_augmentation_differs_from_epoch_to_epoch(source):
    batch = take(source, 25)
    of_first = batch["image"][batch["label"] == 0]
    assert len(of_first) == 6
    assert len({image.tobytes() for image in of_first}) > 1


def test_seed_decides_everything(source):
    assert_same(take(source, 3), take(source, 3))
    assert (take(source, 3)["label"] != take(source, 3, seed=1)["label"]).any()


def test_starting_late_gives_the_same_batches(source):
    whole = take(source, 9)
    late = take(source, 4, start_step=5)
    assert_same(late, {name: rows[5 * 12 :] for name, rows in whole.items()})


@pytest.mark.parametrize("hosts", [2, 3, 4])
def test_hosts_share_the_same_global_batch_in_order(source, hosts):
    whole = take(source, 2, start_step=3)
    shares = [
        take(source, 2, start_step=3, process_index=host, process_count=hosts)
        for host in range(hosts)
    ]
    for name, rows in whole.items():
        by_step = [share[name].reshape(2, 12 // hosts, *rows.shape[1:]) for share in shares]
        np.testing.assert_array_equal(np.concatenate(by_step, axis=1).reshape(rows.shape), rows)


def test_worker_processes_change_nothing(source):
    assert_same(take(source, 3, num_workers=2), take(source, 3))


@pytest.mark.parametrize("batch_size", [1, 7, 25, 50, 64])
@pytest.mark.parametrize("hosts", [1, 3])
def test_evaluation_sees_every_example_once(source, batch_size, hosts):
    per_host = [
        list(
            eval_batches(
                source, EVAL, batch_size=batch_size * hosts, process_index=i, process_count=hosts
            )
        )
        for i in range(hosts)
    ]
    assert len({len(batches) for batches in per_host}) == 1
    batches = [batch for batches in per_host for batch in batches]
    assert {batch["image"].shape for batch in batches} == {(batch_size, 32, 32, 3)}
    real = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    assert sorted(real) == list(range(50))
    padding = np.concatenate([batch["image"][~batch["mask"]] for batch in batches])
    assert not padding.any()


def test_global_batch_must_be_shared_evenly(source):
    with pytest.raises(ValueError, match="batch of 12 cannot be shared evenly by 5 hosts"):
        take(source, 1, process_count=5)
