"""Initial variables: those that Flax draws, each made in its shards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shunted_jax.config import Config, MeshConfig
from shunted_jax.models import ShuntedTransformer
from shunted_jax.tasks import make_task
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.step import drawing
from shunted_jax.training.step.optimizer import make_optimizer
from shunted_jax.training.step.programs import make_programs
from tests.support.quick import quick_jit

# Every kind of module that has variables, and widths large enough to be split.
MODEL = ShuntedTransformer(
    depths=(1, 3),
    embed_dims=(8, 64),
    num_heads=(2, 2),
    mlp_ratios=(2, 4),
    sr_ratios=(2, 1),
    num_stem_convs=1,
    num_classes=5,
)


@pytest.mark.parametrize("mesh_config", [MeshConfig(data=8), MeshConfig(data=2, fsdp=4)])
def test_values_are_those_of_flax_in_shards_from_few_programs(mesh_config):
    config = Config(ema_decay=0.9)
    programs = make_programs(
        MODEL,
        make_optimizer(config.optimizer, 1e-3),
        make_task(config, MODEL.num_classes),
        make_mesh(mesh_config),
    )
    drawing._compiled.cache_clear()
    state = programs.init(jax.random.key(3))
    images = jnp.zeros((1, MODEL.min_image_size, MODEL.min_image_size, 3))
    expected = quick_jit(MODEL.init)(jax.random.key(3), images)
    jax.tree.map(np.testing.assert_array_equal, state.variables, expected)
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, state.params)
    for leaf, wanted in zip(
        jax.tree.leaves(state), jax.tree.leaves(programs.abstract_state), strict=True
    ):
        assert (leaf.shape, leaf.dtype, leaf.sharding) == (
            wanted.shape,
            wanted.dtype,
            wanted.sharding,
        )
    print(drawing._compiled.cache_info(), len(jax.tree.leaves(expected)))
    of_one_block = len(jax.tree.leaves(expected["params"]["stages_1"]["blocks_0"]))
    assert (
        drawing._compiled.cache_info().currsize <= len(jax.tree.leaves(expected)) - 2 * of_one_block
    )
