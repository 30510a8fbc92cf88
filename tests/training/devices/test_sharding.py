"""The mesh, the rule, and that neither changes what is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from shunted_jax.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig
from shunted_jax.models import ShuntedTransformer
from shunted_jax.tasks.classification import Classification
from shunted_jax.training.devices.sharding import make_mesh, put_batch, state_shardings
from shunted_jax.training.step.optimizer import make_optimizer
from shunted_jax.training.step.programs import compile_steps, make_programs
from tests.support.tolerances import looser


@pytest.mark.parametrize(
    ("sizes", "shape"), [((-1, 1), (8, 1)), ((2, -1), (2, 4)), ((1, 8), (1, 8)), ((4, 2), (4, 2))]
)
def test_mesh_uses_all_devices(sizes, shape):
    mesh = make_mesh(MeshConfig(*sizes))
    assert dict(mesh.shape) == dict(zip(("data", "fsdp"), shape, strict=True))


def test_mesh_goes_process_by_process():
    # So that the rows of a process follow each other in the global batch.
    mesh = make_mesh(MeshConfig(data=4, fsdp=2), jax.devices()[::-1])
    assert mesh.devices.flatten().tolist() == jax.devices()


@pytest.mark.parametrize("sizes", [(3, 1), (-1, 3), (16, 1)])
def test_mesh_that_leaves_devices_over_is_refused(sizes):
    with pytest.raises(ValueError, match="8 devices there are.*product must be 8"):
        make_mesh(MeshConfig(*sizes))


def test_rule_splits_the_largest_axis_that_fsdp_divides():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    shapes = {
        "large": ((3, 3, 64, 128), P(None, None, None, "fsdp")),
        "odd": ((1001, 512), P(None, "fsdp")),
        "small": ((64, 64), P(None, None)),
        "indivisible": ((333, 333), P(None, None)),
        "scalar": ((), P()),
    }
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, (shape, _) in shapes.items()}
    for name, sharding in state_shardings(tree, mesh).items():
        assert sharding.spec == shapes[name][1], name
    for sharding in state_shardings(tree, make_mesh(MeshConfig(data=8))).values():
        assert sharding.is_fully_replicated


def losses_on(mesh_config, devices=None, steps=4):
    model = ShuntedTransformer(
        depths=(2,),
        embed_dims=(64,),
        num_heads=(2,),
        mlp_ratios=(4,),
        sr_ratios=(2,),
        num_classes=5,
        drop_path_rate=0.2,
    )
    config = Config(
        model=ModelConfig(),
        data=DataConfig(image_size=16),
        optimizer=OptimizerConfig(clip_norm=1.0),
        mesh=mesh_config,
        batch_size=16,
        eval_batch_size=16,
    )
    mesh = make_mesh(mesh_config, devices)
    tx = make_optimizer(config.optimizer, 1e-4)
    programs = compile_steps(make_programs(model, tx, Classification(config, 5), mesh))
    state = programs.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8),
        "label": rng.integers(0, 5, 16).astype(np.int32),
    }
    losses = []
    for _ in range(steps):
        state, metrics = programs.train_step(state, put_batch(batch, mesh), jax.random.key(1))
        losses.append((metrics["loss"].value, metrics["grad_norm"].value))
    batch["mask"] = np.arange(16) < 11
    metrics, rows = programs.eval_step(state.variables, put_batch(batch, mesh))
    return state, losses, metrics, rows


@pytest.fixture(scope="module")
def on_all_devices(float32_products):
    """Returns what `losses_on` does, of a batch that all the devices there are share."""
    return losses_on(MeshConfig())


@pytest.mark.accelerator
@pytest.mark.usefixtures("float32_products")
def test_steps_on_all_devices_are_those_of_one_cpu(on_all_devices):
    _, losses, scores, rows = on_all_devices
    cpu = jax.devices("cpu")[:1]
    with jax.default_device(cpu[0]):
        _, reference, of_one, rows_of_one = losses_on(MeshConfig(), cpu)
    np.testing.assert_allclose(losses, reference, rtol=looser(1e-4))
    np.testing.assert_allclose(scores["loss"].value, of_one["loss"].value, rtol=looser(1e-4))
    assert scores["top1"].count == 11
    np.testing.assert_array_equal(rows["prediction"], rows_of_one["prediction"])


@pytest.mark.accelerator
@pytest.mark.devices(8)
@pytest.mark.usefixtures("float32_products")
def test_splitting_parameters_changes_nothing_that_is_computed(on_all_devices):
    _, reference, scores, rows = on_all_devices
    state, losses, other_scores, other_rows = losses_on(MeshConfig(data=-1, fsdp=4))
    np.testing.assert_allclose(losses, reference, rtol=looser(1e-4))
    assert other_scores["top1"].count == 11
    np.testing.assert_allclose(other_scores["loss"].value, scores["loss"].value, rtol=looser(1e-4))
    np.testing.assert_array_equal(other_rows["prediction"], rows["prediction"])
    # And they are split, the optimizer's moments with them.
    for tree in (state.params, state.opt_state[1][0].mu):
        kernel = tree["stages_0"]["blocks_0"]["mlp"]["fc1"]["kernel"]
        assert kernel.sharding.spec == P(None, "fsdp")
        assert kernel.addressable_shards[0].data.shape == (64, 256 // 4)
