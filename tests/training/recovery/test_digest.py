"""What gives damage away: every bit counts, on every mesh alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from shunted_jax.config import MeshConfig
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.recovery.digest import changed_arrays, digest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
def test_any_bit_changes_the_sum(dtype):
    mesh = make_mesh(MeshConfig())
    random = np.random.default_rng(0)
    values = np.asarray(jnp.asarray(random.normal(size=(4, 6)), dtype))
    at_rest = NamedSharding(mesh, P())
    before = digest({"a": jax.device_put(values, at_rest)}).sums
    for _ in range(20):
        raw = bytearray(values.tobytes())
        place = random.integers(len(raw))
        raw[place] ^= 1 << (0 if dtype == "bool" else random.integers(8))
        damaged = np.frombuffer(bytes(raw), values.dtype).reshape(values.shape)
        now = digest({"a": jax.device_put(damaged, at_rest)}).sums
        assert changed_arrays(before, now) == ["a"]
    swapped = digest({"a": jax.device_put(values[::-1], at_rest)}).sums
    assert dtype == "bool" or changed_arrays(before, swapped) == ["a"]


def test_sum_is_the_same_however_the_array_lies():
    values = np.random.default_rng(1).normal(size=(8, 16, 8)).astype(np.float32)
    scalar = jnp.float32(3)
    sums = set()
    for fsdp in (1, 2, 8):
        mesh = make_mesh(MeshConfig(fsdp=fsdp))
        for spec in (P(), P("fsdp"), P(None, "fsdp"), P("data", None, "fsdp")):
            state = {"a": jax.device_put(values, NamedSharding(mesh, spec)), "b": scalar}
            sums.add(tuple(digest(state).sums.items()))
    assert len(sums) == 1
    weights = 2 * np.arange(values.size, dtype=np.uint32) + 1
    assert dict(sums.pop())["a"] == np.sum(values.view(np.uint32).ravel() * weights) % 2**32


def test_arrays_that_are_not_finite_are_named():
    state = {"fine": jnp.ones(3), "bad": {"x": jnp.array([1, jnp.inf])}, "count": jnp.arange(2)}
    assert digest(state).not_finite == ["bad/x"]
