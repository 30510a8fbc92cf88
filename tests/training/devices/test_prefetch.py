"""Batches reach the devices in order, each once, a given number of them early."""

import jax
import numpy as np
import pytest

from shunted_jax.config import MeshConfig
from shunted_jax.training.devices.prefetch import prefetch_to_device
from shunted_jax.training.devices.sharding import batch_sharding, make_mesh, sum_over_hosts


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_order_and_how_early(ahead):
    mesh = make_mesh(MeshConfig())
    read = []

    def batches():
        for number in range(6):
            read.append(number)
            yield {"image": np.full((8, 2), number, np.uint8)}

    for number, batch in enumerate(prefetch_to_device(batches(), mesh, ahead)):
        assert batch["image"].sharding == batch_sharding(mesh)
        np.testing.assert_array_equal(batch["image"], np.full((8, 2), number))
        assert len(read) == min(number + ahead + 1, 6)
    assert number == 5


def test_sum_over_hosts_is_the_number_itself_on_one():
    assert jax.process_count() == 1
    assert sum_over_hosts(12_345, make_mesh(MeshConfig(data=-1, fsdp=2))) == 12_345
