"""Compiling for a GPU without one: what is counted in programs, and that JAX takes the GPU."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from benchmarks.ahead_of_time.parts import part_of
from benchmarks.gpu_aot import target
from benchmarks.gpu_aot.kernels import kernels
from benchmarks.gpu_aot.program import by, count
from shunted_jax.errors import UserError
from shunted_jax.ops.dispatch import run
from shunted_jax.ops.operation import Form, Operation
from shunted_jax.reporting.peaks import peak_flops

PROGRAM = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%fused_halves (map.1: bf16[8,100], bias.1: bf16[50]) -> bf16[8,50] {
  %map.1 = bf16[8,100]{1,0} parameter(0)
  %bias.1 = bf16[50]{0} parameter(1)
  %same = bf16[8,100]{1,0} bitcast(%map.1)
  %left = bf16[8,50]{1,0} slice(%same), slice={[0:8], [0:50]}
  %row = bf16[1,50]{1,0} slice(%map.1), slice={[0:1], [50:100]}
  %rows = bf16[8,50]{1,0} broadcast(%row), dimensions={0,1}
  %biases = bf16[8,50]{1,0} broadcast(%bias.1), dimensions={1}
  %halves = bf16[8,50]{1,0} add(%left, %rows), metadata={op_name="jit(step)/jvp(Net)/stages_1/blocks_0/attention/add"}
  ROOT %biased = bf16[8,50]{1,0} add(%halves, %biases)
}

%fused_overlap (map.2: bf16[8,100]) -> bf16[8,90] {
  %map.2 = bf16[8,100]{1,0} parameter(0)
  %first = bf16[8,90]{1,0} slice(%map.2), slice={[0:8], [0:90]}
  %last = bf16[8,90]{1,0} slice(%map.2), slice={[0:8], [10:100]}
  ROOT %both = bf16[8,90]{1,0} maximum(%first, %last)
}

%fused_put (stack.1: f32[16,100], new.1: f32[1,100], i.1: s32[]) -> (f32[16,100], f32[1,100]) {
  %stack.1 = f32[16,100]{1,0} parameter(0)
  %new.1 = f32[1,100]{1,0} parameter(1)
  %i.1 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %put = f32[16,100]{1,0} dynamic-update-slice(%stack.1, %new.1, %i.1, %zero)
  %negated = f32[1,100]{1,0} negate(%new.1)
  ROOT %out.1 = (f32[16,100]{1,0}, f32[1,100]{1,0}) tuple(%put, %negated)
}

%fused_inner (a.1: bf16[8,50], b.1: bf16[50,20]) -> bf16[8,20] {
  %a.1 = bf16[8,50]{1,0} parameter(0)
  %b.1 = bf16[50,20]{1,0} parameter(1)
  ROOT %dot = bf16[8,20]{1,0} dot(%a.1, %b.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%fused_gemm (a.2: bf16[8,50], b.2: bf16[50,20]) -> bf16[8,20] {
  %a.2 = bf16[8,50]{1,0} parameter(0)
  %b.2 = bf16[50,20]{1,0} parameter(1)
  ROOT %inner = bf16[8,20]{1,0} fusion(%a.2, %b.2), kind=kCustom, calls=%fused_inner
}

%body (state: (s32[], f32[16,100])) -> (s32[], f32[16,100]) {
  %state = (s32[], f32[16,100]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %stack = f32[16,100]{1,0} get-tuple-element(%state), index=1
  %row.2 = f32[1,100]{1,0} dynamic-slice(%stack, %i), dynamic_slice_sizes={1,100}
  %put.2 = (f32[16,100]{1,0}, f32[1,100]{1,0}) fusion(%stack, %row.2, %i), kind=kLoop, calls=%fused_put
  %stack.2 = f32[16,100]{1,0} get-tuple-element(%put.2), index=0
  ROOT %next = (s32[], f32[16,100]{1,0}) tuple(%i, %stack.2)
}

%condition (state.1: (s32[], f32[16,100])) -> pred[] {
  %state.1 = (s32[], f32[16,100]{1,0}) parameter(0)
  %i.2 = s32[] get-tuple-element(%state.1), index=0
  %end = s32[] constant(5)
  ROOT %less = pred[] compare(%i.2, %end), direction=LT
}

%small (p.1: f32[10]) -> f32[10] {
  %p.1 = f32[10]{0} parameter(0)
  ROOT %minus = f32[10]{0} negate(%p.1)
}

%large (p.2: f32[10]) -> f32[10] {
  %p.2 = f32[10]{0} parameter(0)
  %minus.2 = f32[10]{0} negate(%p.2)
  ROOT %plus = f32[10]{0} add(%p.2, %minus.2)
}

ENTRY %main (map: bf16[8,100], bias: bf16[50], weights: bf16[50,20], start: (s32[], f32[16,100]), p: f32[10], which: s32[]) -> f32[10] {
  %map = bf16[8,100]{1,0} parameter(0), metadata={op_name="map"}
  %bias = bf16[50]{0} parameter(1)
  %weights = bf16[50,20]{1,0} parameter(2)
  %start = (s32[], f32[16,100]{1,0}) parameter(3)
  %p = f32[10]{0} parameter(4)
  %which = s32[] parameter(5)
  %halves.1 = bf16[8,50]{1,0} fusion(%map, %bias), kind=kLoop, calls=%fused_halves, backend_config={"operation_queue_id":"0"}
  %overlap = bf16[8,90]{1,0} fusion(%map), kind=kLoop, calls=%fused_overlap
  %gemm = bf16[8,20]{1,0} fusion(%halves.1, %weights), kind=kCustom, calls=%fused_gemm, metadata={op_name="jit(step)/transpose(jvp(Net))/stages_0/blocks_1/mlp/fc1/dot_general"}
  %loop = (s32[], f32[16,100]{1,0}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %conv = (bf16[8,20]{1,0}, u8[4096]{0}) custom-call(%gemm, %weights), custom_call_target="__cudnn$convForward"
  %two = (bf16[8,20]{1,0}, u8[30]{0}, bf16[8,20]{1,0}) custom-call(%gemm), custom_call_target="__cudnn$fmhaSoftmax"
  %called = f32[10]{0} call(%p), to_apply=%small
  %sent = (f32[10]{0}, f32[10]{0}, u32[]) copy-start(%called)
  %there = f32[10]{0} copy-done(%sent)
  %either = f32[10]{0} conditional(%which, %there, %there), branch_computations={%small, %large}
  %unknown = f32[10]{0} conditional(%which, %p, %p), true_computation=%large, false_computation=%small
  ROOT %out = f32[10]{0} bitcast(%either)
}
"""  # noqa: E501

# By name: the bytes of an operand or result, each once, and how often it runs.
EXPECTED = {
    "halves.1": (8 * 50 * 2 + 50 * 2 + 50 * 2 + 8 * 50 * 2, 1),  # two slices, the bias, the result
    "overlap": (8 * 100 * 2 + 8 * 90 * 2, 1),  # slices that overlap: no more than the whole
    "gemm": (8 * 50 * 2 + 50 * 20 * 2 + 8 * 20 * 2, 1),
    "row.2": (100 * 4 + 4 + 100 * 4, 5),
    "put.2": (100 * 4 + 4 + 100 * 4 + 100 * 4, 5),  # the stack is neither read nor written whole
    "conv": (8 * 20 * 2 + 50 * 20 * 2 + 8 * 20 * 2, 1),  # no workspace
    "two": (8 * 20 * 2 + 8 * 20 * 2 + 30 + 8 * 20 * 2, 1),  # bytes that are no workspace
    "minus": (80, 1),  # of the call
    "sent": (40 + 40 + 4, 1),
    "minus.2": (80, 2),  # of the larger branches
    "plus": (120, 2),
}

needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None, reason="jax-cuda13-plugin is missing"
)


def test_bytes_of_each_kernel_are_exact():
    counted = {}
    for kernel in kernels(PROGRAM):
        size, times = counted.get(kernel.name, (kernel.size, 0))
        assert size == kernel.size
        counted[kernel.name] = (size, times + kernel.times)
    assert counted == EXPECTED


def test_totals_are_those_of_the_kernels():
    found = kernels(PROGRAM)
    moved = sum(size * times for size, times in EXPECTED.values())
    assert count(found, batch=8) == {
        "gigabytes_moved": moved / 1e9,
        "kernels": 21,
        "bound_images_per_second": 8 * 3.35e12 / moved,
    }
    for field in ("part", "kind"):
        rows = by(field, found)
        assert sum(row["kernels"] for row in rows) == 21
        assert sum(row["gigabytes"] for row in rows) == pytest.approx(moved / 1e9, rel=1e-12)


def test_a_loop_of_unknown_length_counts_once():
    text = PROGRAM.replace('"known_trip_count":{"n":"5"}', "")
    times = {kernel.name: kernel.times for kernel in kernels(text)}
    assert times["put.2"] == times["row.2"] == 1


def test_kernels_are_called_after_what_they_do():
    found = {kernel.name: kernel for kernel in kernels(PROGRAM)}
    kinds = {name: kernel.kind for name, kernel in found.items()}
    assert kinds["gemm"] == "matrix product"  # in a fusion inside of it
    assert kinds["halves.1"] == "elementwise"
    assert kinds["conv"] == "cuDNN convolution"
    assert kinds["two"] == "cuDNN attention"
    assert kinds["row.2"] == "dynamic-slice"
    assert found["gemm"].results == "bf16[8,20]"


def test_kernels_know_their_part():
    parts = {kernel.name: kernel.part for kernel in kernels(PROGRAM)}
    assert parts["gemm"] == "stage 1, mlp, backward"
    assert parts["halves.1"] == "stage 2, attention, forward"  # by what is in it
    assert parts["conv"] == "no source"


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("jit(step)/jvp(Net)/Net.features/stem/conv_0/conv", "stem, forward"),
        ("jit(step)/jvp(Net)/stages_2/blocks_3/norm1/mul", "stage 3, norms and sums, forward"),
        (
            "jit(step)/transpose(jvp(Net))/stages_3/patch_embed/conv",
            "stage 4, embedding and norm, backward",
        ),
        ("jit(both_ways)/transpose(jvp(block))/mlp/fc1/dot_general", "block, mlp, backward"),
        ("jit(both_ways)/jvp(block)/add", "block, norms and sums, forward"),
        ("jit(step)/add", "the rest"),
    ],
)
def test_parts_are_read_from_sources(source, part):
    assert part_of(source) == part


def test_missing_plugin_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install jax-cuda13-plugin==\S+ jax-cuda13-pjrt=="):
        target.prepare()


def test_missing_cudnn_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(target, "has_cudnn_attention", lambda: False)
    with pytest.raises(UserError, match=r"needs cuDNN, .*: pip install nvidia-cudnn-cu13 \(no GPU"):
        target.prepare()


@needs_plugin
def test_programs_for_the_gpu_hold_its_forms():
    target.prepare()
    gpu = target.device()
    assert peak_flops(gpu) == 989.5e12
    double = Operation(
        "double", lambda x: x + x, {"cuda": Form(lambda x: jnp.stack([x, x])[0] * 2)}
    )
    x = jax.ShapeDtypeStruct((1000,), jnp.float32, sharding=SingleDeviceSharding(gpu))
    lowered = jax.jit(lambda x: run(double, x, compute="auto")).lower(x)
    assert "stablehlo.multiply" in lowered.as_text()
    (kernel,) = kernels(lowered.compile().as_text())
    assert (kernel.size, kernel.times, kernel.kind) == (8000, 1, "elementwise")
