"""The published network's measured outputs, on the first device: errors next to what is promised.

Run as `python -m benchmarks.gpu_check.goldens eval`, or `training`.
"""

import argparse

import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_check.rows import attempt, begin
from shunted_jax.convert.state_dict import load_state_dict
from shunted_jax.models import create_model
from tests.golden.cases import case_inputs, load, logits_and_maps

_CASE = "eval_shunted_t_224"


def main() -> None:
    """Writes a row for each precision."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("eval", "training"))
    what = parser.parse_args().what
    begin()
    for dtype, precision in (("float32", "highest"), ("bfloat16", None), ("float32", None)):
        if what == "training" and dtype == "bfloat16":
            continue
        names = {"dtype": dtype, "precision": precision or "default"}
        with attempt(case=what, **names) as figures:
            figures |= evaluation(dtype, precision) if what == "eval" else training(precision)


def evaluation(dtype: str, precision: str | None) -> dict:
    """Returns the errors of logits and of the last stage's map."""
    golden = load(_CASE)
    variant, weights, images = case_inputs(golden)
    fields = {"dtype": jnp.dtype(dtype), "precision": precision}
    model = create_model(variant, num_classes=int(golden["num_classes"]), **fields)
    logits, maps = logits_and_maps(model, load_state_dict(model, weights), images)
    logits, expected = (np.asarray(x, np.float64) for x in (logits, golden["logits"]))
    norms = np.linalg.norm(logits, axis=-1) * np.linalg.norm(expected, axis=-1)
    return {
        "logits_error": float(np.abs(logits - expected).max()),
        "stage4_error": float(np.abs(np.asarray(maps[3], np.float32) - golden["stage4"]).max()),
        "least_cosine": float(np.min(np.sum(logits * expected, axis=-1) / norms)),
        "promised": "errors 2e-5" if dtype == "float32" else "cosine 0.999",
    }


def training(precision: str | None) -> dict:
    """Returns the relative errors of losses, gradients' norms and whole gradients."""
    from tests.models.test_golden import train_on_measured_case

    golden, gradients, losses = train_on_measured_case("auto", precision=precision)
    norms = [np.linalg.norm(np.asarray(gradients[n], np.float64)) for n in golden["grad_names"]]
    whole = [
        np.abs(gradients[key.removeprefix("grad/")] - golden[key]).max() / np.abs(golden[key]).max()
        for key in golden
        if key.startswith("grad/")
    ]
    return {
        "losses_error": _relative(losses, golden["losses"]),
        "norms_error": _relative(norms, golden["grad_norms"]),
        "gradients_error": float(max(whole)),
        "promised": "2e-4, 1e-3, 1e-4",
    }


def _relative(found: object, expected: np.ndarray) -> float:
    return float(np.max(np.abs(np.asarray(found, np.float64) - expected) / np.abs(expected)))


if __name__ == "__main__":
    main()
