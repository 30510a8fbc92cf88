"""`load_pretrained`: one line, from a conversion or a run, with the fields that one wants."""

import dataclasses
import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import shunted_jax
from shunted_jax.checkpoints import (
    BEST_METRIC,
    Metadata,
    RunCheckpoints,
    RunRecord,
    Weights,
    write_weights,
)
from shunted_jax.config import MeshConfig
from shunted_jax.models.architecture import architecture_of
from shunted_jax.models.variables import initial_values
from shunted_jax.pretrained import read_network
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.step.state import TrainState
from tests.support.quick import quick_jit
from tests.support.tiny import ONE_STAGE

FIELDS = ONE_STAGE | {"num_classes": 5}


@pytest.fixture(scope="module")
def network():
    """Returns a module and its variables as numpy arrays."""
    model = shunted_jax.ShuntedTransformer(**FIELDS)
    variables = quick_jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return model, jax.device_get(variables)


@pytest.fixture
def converted(network, tmp_path):
    """Returns the folder of a checkpoint such as `convert_weights.py` writes."""
    model, variables = network
    write_weights(tmp_path / "out", Weights(**variables, meta=Metadata(architecture_of(model))))
    return tmp_path / "out"


@pytest.fixture
def run_folder(network, tmp_path):
    """Returns a run with three checkpoints, the second of them the best."""
    model, variables = network
    with RunCheckpoints(tmp_path / "run" / "checkpoints", keep=3) as checkpoints:
        for step, top1 in ((10, 0.5), (20, 0.9), (30, 0.7)):
            state = TrainState(
                step=jnp.asarray(step),
                opt_state={"mu": jnp.zeros(3)},
                params=jax.tree.map(
                    lambda leaf, by=step: jnp.asarray(leaf + by), variables["params"]
                ),
                batch_stats=variables["batch_stats"],
            )
            record = RunRecord(config={}, step=step, metrics={BEST_METRIC: top1})
            checkpoints.save(state, Metadata(architecture_of(model), run=record))
    return tmp_path / "run"


def test_a_folder_that_is_called_by_a_number_is_no_step(network, run_folder, converted):
    assert read_network(converted.rename(converted.with_name("2024")))[1].step is None
    assert read_network(run_folder)[1].step == 20


def test_gives_back_what_was_written(network, converted):
    model, variables = shunted_jax.load_pretrained(converted)
    assert model == network[0]
    jax.tree.map(np.testing.assert_array_equal, variables, network[1])
    assert {type(leaf) for leaf in jax.tree.leaves(variables)} == {np.ndarray}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shunted_jax.load_pretrained(str(converted), num_classes=5)


def test_takes_a_run_at_its_best_step_or_the_one_asked_for(network, run_folder):
    bias = network[1]["params"]["head"]["bias"]
    for where in (run_folder, run_folder / "checkpoints"):
        _, variables = shunted_jax.load_pretrained(where)
        np.testing.assert_array_equal(variables["params"]["head"]["bias"], bias + 20)
    for step in (30, "latest"):
        _, variables = shunted_jax.load_pretrained(run_folder, step=step)
        np.testing.assert_array_equal(variables["params"]["head"]["bias"], bias + 30)
    _, variables = shunted_jax.load_pretrained(run_folder / "checkpoints" / "10")
    np.testing.assert_array_equal(variables["params"]["head"]["bias"], bias + 10)
    with pytest.raises(ValueError, match="no checkpoint of step 15; it has 10, 20, 30"):
        shunted_jax.load_pretrained(run_folder, step=15)


def test_averaged_parameters_are_had_by_asking(network, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="shunted_jax")
    model, variables = network
    about = Metadata(architecture_of(model))
    with RunCheckpoints(tmp_path / "run", keep=3) as checkpoints:
        for step, top1, of_average in ((10, 0.9, 0.2), (20, 0.5, 0.8)):
            params = jax.tree.map(lambda leaf, by=step: jnp.asarray(leaf + by), variables["params"])
            state = TrainState(
                step=jnp.asarray(step),
                opt_state={"mu": jnp.zeros(3)},
                params=params,
                batch_stats=variables["batch_stats"],
                ema_params=jax.tree.map(lambda leaf: leaf + 100, params),
            )
            record = RunRecord(
                config={},
                step=step,
                metrics={"eval/top1": top1, "eval_ema/top1": of_average},
                best_by="eval_ema/top1",
            )
            checkpoints.save(state, dataclasses.replace(about, run=record))
    bias = variables["params"]["head"]["bias"]
    for ema, expected in ((True, bias + 120), (False, bias + 20)):
        _, loaded = shunted_jax.load_pretrained(tmp_path / "run", ema=ema)
        np.testing.assert_array_equal(loaded["params"]["head"]["bias"], expected)
    _, loaded = shunted_jax.load_pretrained(tmp_path / "run", ema=True, in_channels=1)
    stem = variables["params"]["stem"]["conv_0"]["kernel"] + 120
    np.testing.assert_allclose(
        loaded["params"]["stem"]["conv_0"]["kernel"], stem.sum(axis=2, keepdims=True), rtol=1e-6
    )
    assert f"taking step 20 of {tmp_path / 'run'}, the best by eval_ema/top1" in caplog.text


def test_average_that_was_not_kept_is_refused(run_folder, converted):
    for path in (run_folder, converted):
        with pytest.raises(ValueError, match=r"no moving average.*with --config.ema_decay=0.9999"):
            shunted_jax.load_pretrained(path, ema=True)


def test_arrays_that_are_not_the_networks_are_refused(network, tmp_path):
    model, variables = network
    other = Metadata(architecture_of(model) | {"embed_dims": [16]})
    write_weights(tmp_path / "out", Weights(**variables, meta=other))
    for read, message in (
        (shunted_jax.load_pretrained, "the fields asked for do not fit the parameters in .*out"),
        (read_network, "out does not hold the network that it says it does; convert it again"),
    ):
        with pytest.raises(ValueError, match=rf"{message}:\n  .*: .* in the checkpoint, "):
            read(tmp_path / "out")


def test_other_number_of_classes_gives_a_fresh_head_with_a_warning(network, converted):
    with pytest.warns(UserWarning, match="has a head of 5 classes.*params/head is freshly"):
        model, variables = shunted_jax.load_pretrained(converted, num_classes=7)
    head = variables["params"]["head"]
    assert model.num_classes == 7
    assert head["kernel"].shape == (8, 7)
    assert not head["bias"].any()
    with pytest.warns(UserWarning, match="params/head is freshly"):
        _, other = shunted_jax.load_pretrained(converted, num_classes=7, key=jax.random.key(5))
    for key, drawn in ((jax.random.key(0), head), (jax.random.key(5), other["params"]["head"])):
        expected = initial_values(model, key)["params"]["head"]["kernel"](key)
        np.testing.assert_array_equal(drawn["kernel"], expected)
    for part in ("stem", "stages_0"):
        jax.tree.map(
            np.testing.assert_array_equal, variables["params"][part], network[1]["params"][part]
        )
    assert model.apply(variables, jnp.zeros((1, 8, 8, 3))).shape == (1, 7)


def test_no_classes_leave_the_head_out(converted):
    model, variables = shunted_jax.load_pretrained(converted, num_classes=0)
    assert "head" not in variables["params"]
    assert model.apply(variables, jnp.zeros((1, 8, 8, 3))).shape == (1, 8)


def test_fields_can_be_set_otherwise(converted):
    model, variables = shunted_jax.load_pretrained(
        converted, drop_path_rate=0.3, dtype=jnp.bfloat16
    )
    assert model.drop_path_rate == 0.3
    assert model.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    for named in ({}, {"dtype": None}):
        assert shunted_jax.load_pretrained(converted, **named)[0].dtype == jnp.float32
    _, variables = shunted_jax.load_pretrained(converted, param_dtype=jnp.bfloat16)
    assert variables["params"]["head"]["kernel"].dtype == jnp.bfloat16


def test_fields_that_change_shapes_are_refused_with_both(converted):
    with pytest.raises(ValueError, match=r"stem/reduce/kernel: \(2, 2, 8, 8\).*\(2, 2, 16, 16\)"):
        shunted_jax.load_pretrained(converted, embed_dims=(16,), in_channels=1)
    with pytest.raises(ValueError, match="blocks_1/.*: nothing in the checkpoint"):
        shunted_jax.load_pretrained(converted, depths=(2,))
    with pytest.raises(ValueError, match="'drop_path'.*did you mean 'drop_path_rate'"):
        shunted_jax.load_pretrained(converted, drop_path=0.1)


def test_the_stem_is_made_for_other_channels(network, converted, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="shunted_jax")
    of_rgb, variables = network
    grey = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    apply = quick_jit(of_rgb.apply)
    expected = apply(variables, np.repeat(grey, 3, axis=-1))
    assert np.ptp(expected) > 0.01

    of_grey, summed = shunted_jax.load_pretrained(converted, in_channels=1)
    found = quick_jit(of_grey.apply)(summed, grey)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert caplog.messages[-1] == (
        f"{converted} takes images of 3 channels, and these have 1: the stem's kernel is summed "
        "over them"
    )
    # And back, from a network that was trained on grey images.
    meta = Metadata(architecture_of(of_grey))
    write_weights(tmp_path / "grey", Weights(**summed, meta=meta))
    _, spread = shunted_jax.load_pretrained(tmp_path / "grey", in_channels=3)
    again = apply(spread, np.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-6)

    # In turn and scaled, as timm does it.
    kernel = variables["params"]["stem"]["conv_0"]["kernel"]
    for channels, places in ((2, [0, 1]), (4, [0, 1, 2, 0]), (6, [0, 1, 2, 0, 1, 2])):
        model, adapted = shunted_jax.load_pretrained(converted, in_channels=channels)
        assert model.in_channels == channels
        np.testing.assert_allclose(
            adapted["params"]["stem"]["conv_0"]["kernel"],
            kernel[:, :, places] * (3 / channels),
            rtol=1e-6,
        )
        assert caplog.messages[-1].endswith(f"repeated in turn and scaled by 3/{channels}")
        adapted["params"]["stem"]["conv_0"]["kernel"] = kernel
        jax.tree.map(np.testing.assert_array_equal, adapted, variables)


def test_leaves_go_where_the_sharding_says(network, converted):
    mesh = make_mesh(MeshConfig())
    sharding = NamedSharding(mesh, P())
    _, variables = shunted_jax.load_pretrained(converted, sharding=sharding)
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(variables))
    jax.tree.map(np.testing.assert_array_equal, variables, network[1])


def test_what_is_no_checkpoint_is_said(converted, tmp_path):
    with pytest.raises(ValueError, match="there is nothing at .*nowhere"):
        shunted_jax.load_pretrained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no checkpoint at .*params"):
        shunted_jax.load_pretrained(converted / "params")
    with pytest.raises(ValueError, match="no step 3 to choose"):
        shunted_jax.load_pretrained(converted, step=3)
    (converted / "meta" / "metadata").write_text("{")
    with pytest.raises(ValueError, match="out cannot be read"):
        shunted_jax.load_pretrained(converted)


def test_nnx_users_bridge_it_in_a_line(converted):
    from flax import nnx

    model, variables = shunted_jax.load_pretrained(converted)
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    bridged = nnx.bridge.ToNNX(model, rngs=nnx.Rngs(0)).lazy_init(images)
    nnx.update(bridged, nnx.bridge.variables.linen_vars_to_nnx_attrs(variables))
    np.testing.assert_array_equal(bridged(images), model.apply(variables, images))
