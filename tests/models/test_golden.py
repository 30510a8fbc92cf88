"""The published model's measured outputs, and what they tell of each mistake easily made."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shunted_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig
from shunted_jax.convert.key_map import key_map
from shunted_jax.convert.state_dict import load_state_dict
from shunted_jax.models import create_model
from shunted_jax.ops import pallas
from shunted_jax.tasks import make_task
from shunted_jax.training.step.optimizer import make_optimizer
from shunted_jax.training.step.state import TrainState
from shunted_jax.training.step.steps import make_train_step
from tests.golden.cases import EVAL_CASES, TRAIN_CASE, case_inputs, load, logits_and_maps
from tests.support.tolerances import looser

COMPUTE = ("auto", "reference")
# One program of each variant, that of T with maps whose sides are odd.
ON_ACCELERATORS = ("eval_shunted_t_200x232", "eval_shunted_s_224", "eval_shunted_b_224")


def marked(case):
    return pytest.param(case, marks=pytest.mark.accelerator if case in ON_ACCELERATORS else ())


@pytest.mark.parametrize("case", [marked(case) for case in EVAL_CASES])
def test_evaluation_agrees_with_published_model(case):
    check_evaluation(case, "auto")


def test_evaluation_agrees_in_plain_jax():
    check_evaluation("eval_shunted_t_200x232", "reference")  # whose maps have odd sides


@pytest.mark.proof
@pytest.mark.parametrize("case", EVAL_CASES)
def test_every_evaluation_agrees_in_plain_jax(case):
    check_evaluation(case, "reference")


def make_model(variant, golden, **fields):
    """Returns a variant with a case's head, whose float32 products are so on every platform."""
    fields = {"num_classes": int(golden["num_classes"]), "precision": "highest"} | fields
    return create_model(variant, **fields)


def check_evaluation(case, compute):
    golden = load(case)
    variant, weights, images = case_inputs(golden)
    model = make_model(variant, golden, compute=compute)
    variables = load_state_dict(model, weights)
    logits, maps = logits_and_maps(model, variables, images)
    atol = looser(2e-5)
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=atol)
    np.testing.assert_allclose(maps[3].mean(axis=(1, 2)), golden["pooled"], rtol=0, atol=atol)
    np.testing.assert_allclose(maps[3], golden["stage4"], rtol=0, atol=atol)
    for stage, feature_map in enumerate(maps, start=1):
        assert feature_map.shape == tuple(golden[f"stage{stage}_shape"])
        for statistic in ("mean", "std"):
            value = getattr(feature_map, statistic)(axis=(1, 2))
            expected = golden[f"stage{stage}_{statistic}"]
            np.testing.assert_allclose(value, expected, rtol=0, atol=atol)


def test_without_classes_gives_pooled_features():
    golden = load("eval_shunted_t_200x232")
    variant, weights, images = case_inputs(golden)
    model = make_model(variant, golden, num_classes=0)
    backbone = {name: tensor for name, tensor in weights.items() if not name.startswith("head")}
    pooled = jax.jit(model.apply)(load_state_dict(model, backbone), images)
    np.testing.assert_allclose(pooled, golden["pooled"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "compute", [pytest.param("auto", marks=pytest.mark.accelerator), "reference"]
)
def test_bfloat16_logits_point_where_float32_ones_do(compute):
    golden = load("eval_shunted_t_224")
    variant, weights, images = case_inputs(golden)
    model = create_model(variant, dtype=jnp.bfloat16, compute=compute)
    variables = load_state_dict(model, weights)
    logits = jax.jit(model.apply)(variables, images)
    assert logits.dtype == jnp.float32
    norms = np.linalg.norm(logits, axis=-1) * np.linalg.norm(golden["logits"], axis=-1)
    assert np.all(np.sum(logits * golden["logits"], axis=-1) > 0.999 * norms)


@pytest.mark.proof
def test_kernels_point_where_float32_does():
    golden = load("eval_shunted_t_224")
    variant, weights, images = case_inputs(golden)
    model = create_model(variant, dtype=jnp.bfloat16, compute="pallas")
    eight = np.resize(images, (8, *images.shape[1:]))  # as many as the kernels take at a time
    with pallas.interpreted():
        program = jax.jit(model.apply).trace(load_state_dict(model, weights), eight)
    assert "pallas_call" in str(program.jaxpr)
    logits = program.lower().compile()(load_state_dict(model, weights), eight)
    expected = np.resize(golden["logits"], logits.shape)
    norms = np.linalg.norm(logits, axis=-1) * np.linalg.norm(expected, axis=-1)
    assert np.all(np.sum(logits * expected, axis=-1) > 0.999 * norms)


class KeepGradients(optax.GradientTransformation):
    """Passes gradients on and keeps the last ones in its state."""

    def __new__(cls):
        return super().__new__(
            cls, lambda params: jax.tree.map(jnp.zeros_like, params), lambda g, _, __=None: (g, g)
        )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("auto", marks=pytest.mark.accelerator),
        pytest.param("reference", marks=pytest.mark.proof),
    ],
)
def trained(request):
    """Returns the measured case, the first step's gradients and statistics, and all losses."""
    return train_on_measured_case(request.param)


def train_on_measured_case(compute, **fields):
    golden = load(TRAIN_CASE)
    variant, weights, images = case_inputs(golden)
    model = make_model(variant, golden, compute=compute, **fields)
    config = Config(
        model=ModelConfig(name=variant),
        # The measured images are normalised already, as these numbers leave them.
        data=DataConfig(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255)),
        optimizer=OptimizerConfig(weight_decay=float(golden["weight_decay"])),
        label_smoothing=float(golden["label_smoothing"]),
    )
    learning_rate = float(golden["learning_rate"])
    tx = optax.chain(KeepGradients(), make_optimizer(config.optimizer, learning_rate))
    variables = load_state_dict(model, weights)
    state = TrainState(
        step=jnp.zeros((), jnp.int32), opt_state=tx.init(variables["params"]), **variables
    )
    train_step = jax.jit(make_train_step(model, tx, make_task(config, model.num_classes)))
    batch = {"image": images, "label": golden["labels"]}
    states, losses = [], []
    for _ in golden["losses"]:
        state, metrics = train_step(state, batch, jax.random.key(0))
        states.append(state)
        losses.append(metrics["loss"].value)
    gradients = {}
    first = jax.device_get({"params": states[0].opt_state[0], "batch_stats": states[0].batch_stats})
    for entry in key_map(model):
        leaf = first
        for name in entry.path:
            leaf = leaf[name]
        gradients[entry.torch_name] = entry.to_torch(leaf)
    return golden, gradients, losses


def test_training_losses_agree_with_published_model(trained):
    golden, _, losses = trained
    np.testing.assert_allclose(losses, golden["losses"], rtol=looser(2e-4))


def test_norms_of_all_gradients_agree(trained):
    golden, gradients, _ = trained
    norms = [np.linalg.norm(gradients[name].astype(np.float64)) for name in golden["grad_names"]]
    assert len(norms) == 257
    np.testing.assert_allclose(norms, golden["grad_norms"], rtol=looser(1e-3))


def test_whole_gradients_agree(trained):
    golden, gradients, _ = trained
    names = [key.removeprefix("grad/") for key in golden if key.startswith("grad/")]
    assert len(names) == 9
    for name in names:
        expected = golden[f"grad/{name}"]
        error = np.abs(gradients[name] - expected).max() / np.abs(expected).max()
        assert error < looser(1e-4), f"{name}: {error}"


def test_running_statistics_agree(trained):
    golden, updated, _ = trained
    mean, var = "patch_embed1.conv.1.running_mean", "patch_embed1.conv.1.running_var"
    np.testing.assert_allclose(updated[mean], golden[f"buffer/{mean}"], rtol=0, atol=looser(1e-5))
    # PyTorch takes in the unbiased variance, n / (n - 1) of the biased one that Flax takes in.
    n = int(golden["batch"]) * (int(golden["height"]) // 2) * (int(golden["width"]) // 2)
    old = case_inputs(golden)[1][var]
    unbiased = 0.9 * old + (updated[var] - 0.9 * old) * n / (n - 1)
    np.testing.assert_allclose(unbiased, golden[f"buffer/{var}"], rtol=looser(1e-5))


def test_training_mode_logits_agree():
    golden = load(TRAIN_CASE)
    variant, weights, images = case_inputs(golden)
    model = make_model(variant, golden)

    @jax.jit
    def apply(variables, images):
        return model.apply(variables, images, train=True, mutable=["batch_stats"])

    logits, _ = apply(load_state_dict(model, weights), images)
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=2e-5)
