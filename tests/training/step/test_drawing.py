"""Initial variables: those that Flax draws, each made in its shards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.linen.initializers import constant

from shunted_jax.config import Config, MeshConfig
from shunted_jax.models import ShuntedTransformer
from shunted_jax.tasks import make_task
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.step import drawing
from shunted_jax.training.step.optimizer import make_optimizer
from shunted_jax.training.step.programs import make_programs
from tests.support.quick import quick_jit
from tests.support.tiny import TWO_STAGES

# Every kind of module that has variables, and widths large enough to be split.
MODEL = ShuntedTransformer(
    **TWO_STAGES | {"depths": (1, 3), "embed_dims": (8, 64), "mlp_ratios": (2, 4)},
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


class Network(nn.Module):
    """What nobody but its own modules can say how to start."""

    min_image_size: int = 2
    in_channels: int = 64
    dtype: jnp.dtype = jnp.float32
    precision: jax.lax.PrecisionLike = None

    @nn.compact
    def __call__(self, x):
        gamma = self.param("gamma", constant(1e-4), (64,))
        scale = self.param("scale", lambda key: jax.random.uniform(key, (64, 64)))
        x = nn.Dense(64, kernel_init=constant(3.0))(x * gamma) @ scale
        return nn.BatchNorm(use_running_average=True, bias_init=constant(-1.0))(x)


def test_a_new_module_starts_as_it_says():
    task = make_task(Config(), num_classes=64)
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    tx = make_optimizer(task.config.optimizer, 1e-3)
    state = make_programs(Network(), tx, task, mesh).init(jax.random.key(3))
    kernel, gamma = state.params["Dense_0"]["kernel"], state.params["gamma"]
    np.testing.assert_array_equal(kernel, np.full((64, 64), 3, np.float32))
    np.testing.assert_array_equal(gamma, np.full(64, 1e-4, np.float32))
    np.testing.assert_array_equal(state.params["BatchNorm_0"]["bias"], np.full(64, -1, np.float32))
    expected = quick_jit(Network().init)(jax.random.key(3), jnp.zeros((1, 2, 2, 64)))
    jax.tree.map(np.testing.assert_array_equal, state.variables, expected)
