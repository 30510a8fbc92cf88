"""Compiling for TPUs without one: what is counted in programs, and that the kernels compile."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.tpu import hlo_traffic
from benchmarks.tpu import topology as tpu_topology
from shunted_jax.config import MeshConfig
from shunted_jax.errors import UserError
from shunted_jax.models import ShuntedTransformer
from shunted_jax.reporting.peaks import peak_bandwidth, peak_flops
from shunted_jax.training.devices.sharding import BATCH_SPEC, make_mesh
from shunted_jax.training.step.programs import traced_under

PROGRAM = """HloModule jit_step

%fused (p: bf16[8,128]) -> bf16[8,128] {
  %p = bf16[8,128]{1,0} parameter(0)
  ROOT %n = bf16[8,128]{1,0} negate(%p), metadata={op_name="never/looked/into"}
}

ENTRY %main (a: bf16[8,128], b: f32[4,128]) -> bf16[8,128] {
  %a = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %b = f32[4,128]{1,0:T(8,128)} parameter(1)
  %ahead = ((f32[4,128]{1,0:T(8,128)}), f32[1,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%b), slice={[0:1], [0:128]}
  %on_chip = f32[1,128]{1,0:T(8,128)S(1)} slice-done(%ahead)
  %copied = (f32[4,128]{1,0:T(8,128)S(1)}, f32[4,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%b)
  %both = (bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, f32[2,128]{1,0:T(8,128)}) fusion(%a, %on_chip), kind=kLoop, calls=%fused, metadata={op_name="jit(step)/transpose(jvp(Net))/stages_0/blocks_1/mlp/fc1/dot_general"}
  %kept = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%both), index=0
  %sums = (f32[2,128]{1,0:T(8,128)}, f32[128]{0:T(128)}) all-reduce-start(%x, %y), replica_groups={}
  ROOT %out = bf16[8,128]{1,0:T(8,128)(2,1)} custom-call(%kept), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/stem/conv"}
}
"""  # noqa: E501

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: jax[tpu]"
)


def test_what_lies_on_the_chip_costs_nothing():
    operations = {found.name: found for found in hlo_traffic.operations(PROGRAM)}
    assert {name: found.memory_bytes for name, found in operations.items()} == {
        "ahead": 128 * 4,  # the part, read once
        "copied": 4 * 128 * 4,
        "both": 8 * 128 * 2 + 2 * 128 * 4,  # %a and the second result
        "sums": 2 * 128 * 4 + 128 * 4,
        "out": 8 * 128 * 2,
    }
    assert operations["out"].total_bytes == 2 * 8 * 128 * 2


def test_traffic_goes_to_its_module():
    modules = hlo_traffic.by_module(PROGRAM)
    assert modules["stage 1, mlp, backward"] == pytest.approx(3072e-9)
    assert modules["stem, forward"] == pytest.approx(2048e-9)
    assert modules["no source: copy-start"] == pytest.approx(2048e-9)


def test_collectives_are_found():
    found = hlo_traffic.collectives(PROGRAM)
    assert found == {"all-reduce": {"count": 1, "megabytes": pytest.approx(1536e-6)}}


def test_missing_libtpu_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'jax\[tpu\]=="):
        tpu_topology.prepare()


@needs_libtpu
@pytest.mark.parametrize("chip", tpu_topology.TOPOLOGIES)
def test_kernels_compile(chip):
    tpu_topology.prepare()
    devices = tpu_topology.devices(chip, "host")
    assert peak_flops(devices[0])
    assert peak_bandwidth(devices[0])
    mesh = make_mesh(MeshConfig(), devices)
    maps, everywhere = NamedSharding(mesh, BATCH_SPEC), NamedSharding(mesh, P())
    fields = {"embed_dims": (64,), "num_heads": (2,), "mlp_ratios": (8,), "sr_ratios": (2,)}
    model = ShuntedTransformer(depths=(1,), **fields, dtype=jnp.bfloat16, compute="pallas")
    block = model.block(0)(name="block")
    x = jax.ShapeDtypeStruct((8 * len(devices), 14, 14, 64), jnp.bfloat16)
    params = jax.eval_shape(block.init, jax.random.key(0), x)

    def gradients(params, x):
        return jax.value_and_grad(lambda p: jnp.sum(block.apply(p, x) ** 2.0))(params)

    program = jax.jit(
        traced_under(mesh, gradients), in_shardings=(everywhere, maps), out_shardings=everywhere
    )
    text = program.lower(params, x).compile().as_text()
    for kernel in ("feed_forward", "feed_forward_gradients", "attend", "attend_gradients"):
        assert f"/{kernel}/pallas_call" in text
    assert " conditional(" not in text
    assert set(hlo_traffic.collectives(text)) == {"all-reduce"}
