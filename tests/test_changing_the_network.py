"""The changes that docs/changing_the_network.md shows are all that it takes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
DIFFS = re.findall(
    r"```diff\n(.*?\n)```",
    (REPOSITORY / "docs" / "changing_the_network.md").read_text(),
    re.DOTALL,
)

# What a researcher does next, with the field that the diff adds.
PROGRAM = """
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

import shunted_jax
from shunted_jax.checkpoints import Weights, write_weights
from shunted_jax.config import Config, DataConfig, MeshConfig, ModelConfig
from shunted_jax.convert.command import convert_file, export_file
from shunted_jax.models import registry
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.run import make_model

field, folder, *names = sys.argv[1:]
registry.VARIANTS["tiny"] = {
    "depths": (1, 1),
    "embed_dims": (8, 16),
    "num_heads": (2, 2),
    "mlp_ratios": (2, 2),
    "sr_ratios": (2, 1),
}
model = shunted_jax.create_model("tiny", num_classes=3, **{field: True})
images = jax.random.normal(jax.random.key(1), (2, 16, 24, 3))
variables = jax.jit(model.init)(jax.random.key(0), images)
new = {
    "/".join(path[-2:]): leaf
    for path, leaf in traverse_util.flatten_dict(variables["params"]).items()
    if "attend" in path
}
assert new.keys() == set(names), new.keys()

# It is the network that it was until the new parameters have learned something.
plain = shunted_jax.create_model("tiny", num_classes=3)
print(jax.tree.map(jnp.shape, new))


def loss(params):
    logits, _ = model.apply(
        {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
    )
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(2)))


gradients = jax.jit(jax.grad(loss))(variables["params"])
assert all(np.abs(leaf).max() > 0 for path, leaf in traverse_util.flatten_dict(gradients).items()
           if "attend" in path and "bias" not in path)
params = jax.tree.map(lambda leaf, dx: leaf - 0.1 * dx, variables["params"], gradients)
variables = jax.device_get({**variables, "params": params})

state_dict = shunted_jax.to_torch(model, variables)
back, same = shunted_jax.from_torch(state_dict, num_heads=model.num_heads)
assert back == model, back
jax.tree.map(np.testing.assert_array_equal, same, variables)
np.savez(folder + "/tensors.npz", **state_dict)
config = Config(model=ModelConfig(name="tiny", **{field: True}))
assert make_model(config, num_classes=3) == model
"""


@pytest.mark.parametrize(
    ("number", "field", "names"),
    [
        (0, "qk_norm", ["q_norm/scale", "q_norm/bias", "k_norm/scale", "k_norm/bias"]),
        (1, "distance_bias", ["attend/slope"]),
    ],
)
def test_the_diff_is_all_that_a_change_takes(number, field, names, tmp_path):
    shutil.copytree(
        REPOSITORY / "shunted_jax",
        tmp_path / "shunted_jax",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    subprocess.run(["git", "apply", "-"], input=DIFFS[number], text=True, cwd=tmp_path, check=True)
    changed = re.findall(r"^\+\+\+ b/(\S+)", DIFFS[number], re.MULTILINE)
    assert sorted(changed) == [
        "shunted_jax/config.py",
        "shunted_jax/convert/key_map.py",
        "shunted_jax/models/attention.py",
        "shunted_jax/models/shunted.py",
    ]
    subprocess.run(
        [sys.executable, "-c", PROGRAM, field, str(tmp_path), *names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"},
        check=True,
    )


def test_there_are_two_examples():
    assert len(DIFFS) == 2
