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

# What a researcher does with the field that the diff adds.
PROGRAM = """
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

import shunted_jax
from shunted_jax.checkpoints import Metadata, Weights, write_weights
from shunted_jax.config import Config, DataConfig, MeshConfig, ModelConfig
from shunted_jax.models import registry
from shunted_jax.models.architecture import architecture_of
from shunted_jax.tasks import make_task
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.step.programs import make_programs
from tests.support.tiny import TWO_STAGES

field, folder, *names = sys.argv[1:]
registry.VARIANTS["tiny"] = TWO_STAGES


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def in_attend(params):
    flat = traverse_util.flatten_dict(params)
    return {"/".join(path[-2:]): leaf for path, leaf in flat.items() if "attend" in path}


# It is set, initialised and trained as the rest of the network is.
config = Config(
    model=ModelConfig(name="tiny", **{field: True}),
    data=DataConfig(image_size=32),
    mesh=MeshConfig(data=1),
    batch_size=2,
    eval_batch_size=2,
)
task = make_task(config, num_classes=3)
model = task.make_model()
assert model == shunted_jax.create_model("tiny", num_classes=3, **{field: True})
programs = make_programs(model, optax.sgd(0.1), task, make_mesh(config.mesh, jax.devices()[:1]))
state = programs.init(jax.random.key(0))
images = jnp.zeros((1, 16, 16, 3))
init = jax.jit(lambda key: in_attend(model.init(key, images)["params"]))  # nothing besides
same(in_attend(state.params), init(jax.random.key(0)))
before = jax.device_get(state.params)
rng = np.random.default_rng(0)
batch = {
    "image": rng.integers(0, 256, (2, 32, 32, 3), np.uint8),
    "label": np.int32([0, 1]),
}
state, _ = programs.train_step(state, batch, jax.random.key(1))
variables = jax.device_get(state.variables)
changed = in_attend(variables["params"])
assert changed.keys() == set(names), changed.keys()
for name, leaf in in_attend(before).items():
    # A bias of all keys alike moves no softmax.
    assert name == "k_norm/bias" or np.any(leaf != changed[name]), name

# There and back.
state_dict = shunted_jax.to_torch(model, variables)
converted, back = shunted_jax.from_torch(state_dict, num_heads=model.num_heads)
assert converted == model, converted
same(back, variables)
write_weights(folder + "/out", Weights(**variables, meta=Metadata(model=architecture_of(model))))
loaded, back = shunted_jax.load_pretrained(folder + "/out")
assert loaded == model, loaded
same(back, variables)
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
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "JAX_PLATFORMS": "cpu"},
        check=True,
    )


def test_there_are_two_examples():
    assert len(DIFFS) == 2
