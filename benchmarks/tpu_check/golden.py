"""The published network's measured outputs, and what a device computes of the same weights."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tpu_check.rows import Row, checked
from shunted_jax.convert.state_dict import load_state_dict
from shunted_jax.models import create_model
from tests.golden.cases import case_inputs, load, logits_and_maps

_CASE = "eval_shunted_t_224"
_LARGEST_DIFFERENCE = 1e-4  # a CPU keeps 2e-5; a TPU makes float32 products of bfloat16 ones
_SMALLEST_COSINE = 0.999
_IMAGES = 8  # as many as the kernels take at a time


def rows(small: bool) -> Iterator[Row]:
    """Yields float32 with exact products, and bfloat16 with the kernels.

    Args:
        small: leave the kernels out, which take minutes in the interpreter.
    """
    yield checked("golden", f"{_CASE}, float32, highest", _float32)
    if not small:
        for compute in ("auto", "pallas"):
            yield checked("golden", f"{_CASE}, bfloat16, {compute}", lambda c=compute: _bfloat16(c))


def _float32() -> tuple[bool, str]:
    golden = load(_CASE)
    variant, weights, images = case_inputs(golden)
    num_classes = int(golden["num_classes"])
    model = create_model(variant, num_classes=num_classes, precision="highest")
    logits, maps = logits_and_maps(model, load_state_dict(model, weights), images)
    differences = [
        np.abs(ours - theirs).max()
        for ours, theirs in ((logits, golden["logits"]), (maps[3], golden["stage4"]))
    ]
    text = "largest difference of logits {:.1e}, of stage 4 {:.1e}; below {:.0e}"
    is_near = max(differences) < _LARGEST_DIFFERENCE
    return is_near, text.format(*differences, _LARGEST_DIFFERENCE)


def _bfloat16(compute: str) -> tuple[bool, str]:
    golden = load(_CASE)
    variant, weights, images = case_inputs(golden)
    num_classes = int(golden["num_classes"])
    model = create_model(variant, num_classes=num_classes, dtype=jnp.bfloat16, compute=compute)
    images = np.resize(images, (_IMAGES, *images.shape[1:]))
    logits = np.asarray(jax.jit(model.apply)(load_state_dict(model, weights), images))
    expected = np.resize(golden["logits"], logits.shape)
    norms = np.linalg.norm(logits, axis=-1) * np.linalg.norm(expected, axis=-1)
    cosine = (np.sum(logits * expected, axis=-1) / norms).min()
    return cosine > _SMALLEST_COSINE, f"cosine of logits {cosine:.5f}; above {_SMALLEST_COSINE}"
