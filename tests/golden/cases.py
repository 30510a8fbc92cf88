"""The measured outputs of the published model, and the inputs and weights that they belong to."""

import functools
import json
from pathlib import Path

import jax
import numpy as np

from tests.golden.fill import fill, images

FOLDER = Path(__file__).parent
EVAL_CASES = sorted(path.stem for path in FOLDER.glob("eval_shunted_*.npz"))
TRAIN_CASE = "train_shunted_t_64"


@functools.cache
def load(case):
    """Returns the arrays of a case by name."""
    with np.load(FOLDER / f"{case}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def state_dict_shapes(variant, num_classes=1000):
    """Returns the shape of each entry of the published state dict."""
    published = json.loads((FOLDER / f"state_dict_{variant}.json").read_text())
    shapes = {name: tuple(shape) for name, (shape, _) in published.items()}
    return shapes | {"head.weight": (num_classes, 512), "head.bias": (num_classes,)}


def state_dict(variant, num_classes=1000, seed=0):
    """Returns the weights that the cases were measured with, under their PyTorch names."""
    shapes = state_dict_shapes(variant, num_classes)
    return {name: fill(name, shape, seed) for name, shape in shapes.items()}


def case_inputs(golden):
    """Returns the variant, its state dict and the images [batch, height, width, 3] of a case."""
    variant, num_classes, seed = str(golden["variant"]), int(golden["num_classes"]), golden["seed"]
    nchw = images(*(int(golden[axis]) for axis in ("batch", "height", "width")), seed=int(seed))
    return variant, state_dict(variant, num_classes, int(seed)), nchw.transpose(0, 2, 3, 1)


def logits_and_maps(model, variables, images):
    """Returns the logits and every stage's map; one program, so that it is compiled once."""

    @jax.jit
    def outputs(variables, images):
        maps = model.apply(variables, images, method="features")
        return model.apply(variables, images), maps

    return jax.device_get(outputs(variables, images))
