"""Reading what a run saved prints nothing, of a checkpoint's other items for one."""

import subprocess
import sys

PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np
import shunted_jax
from shunted_jax.checkpoints import Metadata, RunCheckpoints, RunRecord
from shunted_jax.models.architecture import architecture_of
from shunted_jax.training.step.state import TrainState
from tests.support.tiny import ONE_STAGE

model = shunted_jax.ShuntedTransformer(**ONE_STAGE, num_classes=5)
variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
state = TrainState(jnp.int32(7), opt_state={"mu": jnp.zeros(3)}, **variables)
with RunCheckpoints(sys.argv[1], keep=1) as checkpoints:
    meta = Metadata(model=architecture_of(model), run=RunRecord(config={}, step=7))
    checkpoints.save(state, meta)
_, loaded = shunted_jax.load_pretrained(sys.argv[1])
jax.tree.map(np.testing.assert_array_equal, loaded, variables)
print("read")
"""


def test_nothing_is_said_of_items_that_are_not_asked_for(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "run" / "checkpoints"],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("read\n", "")
    assert (tmp_path / "run" / "checkpoints" / "7" / "train").is_dir()
