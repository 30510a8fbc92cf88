"""Where JAX leaves nothing unsaid: arithmetic of unequal ranks is refused, axes are Explicit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from shunted_jax.config import AugmentConfig, Config, DataConfig, MeshConfig, OptimizerConfig
from shunted_jax.models import ShuntedTransformer
from shunted_jax.tasks.classification import Classification
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.step.optimizer import make_optimizer
from shunted_jax.training.step.programs import (
    lower_eval_step,
    lower_train_step,
    make_programs,
)
from tests.support.tiny import ONE_STAGE, TWO_STAGES, random_variables

MODEL = ShuntedTransformer(
    **TWO_STAGES | {"depths": (2, 1)}, num_classes=3, num_stem_convs=1, drop_path_rate=0.1
)


def programs_of(model, mesh, **changes):
    config = Config(
        data=DataConfig(image_size=32),
        optimizer=OptimizerConfig(clip_norm=1.0, layer_decay=0.8),
        ema_decay=0.9,
        max_bad_steps=1,
        eval_batch_size=4,
        **changes,
    )
    tx = make_optimizer(config.optimizer, 1e-3)
    return make_programs(model, tx, Classification(config, 3), mesh)


@pytest.fixture(autouse=True)
def refused():
    with jax.numpy_rank_promotion("raise"):
        yield


def test_a_step_on_one_image_is_made_without_it():
    # The image has many places on the stem's map: enough for batch norm's statistics.
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    programs = programs_of(ShuntedTransformer(**ONE_STAGE, num_classes=3), mesh, batch_size=1)
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), programs.abstract_state)
    params = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(leaf.dtype), state.params
    )
    state = state.replace(params=params, ema_params=params)
    image = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    batch = {"image": image, "label": np.array([1], np.int32)}
    after, metrics = lower_train_step(programs).compile()(
        *jax.device_put((state, batch, jax.random.key(1)), jax.devices()[0])
    )
    assert 0.1 < metrics["loss"].value < 10
    assert metrics["bad_steps"].value == 0
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, after.params)
    assert np.mean([distance > 0 for distance in jax.tree.leaves(moved)]) > 0.9
    assert jax.tree.reduce(lambda a, leaf: a and bool(np.isfinite(leaf).all()), after, True)


@pytest.mark.devices(4)
@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        pytest.param(
            *({"compute": "reference", "drop_rate": 0.1, "attn_drop_rate": 0.1}, {}),
            marks=pytest.mark.proof,
        ),
        ({"scan_blocks": True, "remat": True}, {"accumulate_steps": 2}),
    ],
    ids=["reference", "loops"],
)
def test_a_runs_programs_are_lowered_without_it_and_with_explicit_axes(fields, changes):
    mesh = jax.make_mesh((2, 2), ("data", "fsdp"))
    assert set(mesh.axis_types) == {AxisType.Explicit}
    augment = AugmentConfig(mixup_alpha=0.8, cutmix_alpha=1.0, erase_prob=0.25)
    programs = programs_of(MODEL.clone(**fields), mesh, augment=augment, batch_size=8, **changes)
    lower_train_step(programs)
    lower_eval_step(programs)


@pytest.mark.proof
def test_kernels_are_lowered_without_it():
    sizes = {"embed_dims": (64,), "mlp_ratios": (8,), "sr_ratios": (8,)}
    model = ShuntedTransformer(
        **ONE_STAGE | sizes, num_classes=3, compute="pallas", dtype=jnp.bfloat16
    )

    def loss(variables, images):
        return jnp.mean(model.apply(variables, images))

    images = jnp.zeros((8, 64, 64, 3))
    traced = jax.jit(jax.grad(loss)).trace(random_variables(model), images)
    assert "tpu_custom_call" in traced.lower(lowering_platforms=("tpu",)).as_text()
