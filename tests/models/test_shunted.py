"""The network's interface: shapes, counts, types, modes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import shunted_jax
from shunted_jax.convert.key_map import key_map
from shunted_jax.models.cost import count_macs, count_parameters
from shunted_jax.models.layers import DropPath
from tests.golden.cases import state_dict_shapes
from tests.support.quick import quick_jit
from tests.support.tiny import TWO_STAGES

PARAMETERS = {"shunted_t": 11_553_576, "shunted_s": 22_401_256, "shunted_b": 39_614_376}
GMACS = {"shunted_t": 2.15, "shunted_s": 4.99, "shunted_b": 8.15}

SMALL = TWO_STAGES | {"num_classes": 5}


def abstract_variables(model, side=64):
    images = jax.ShapeDtypeStruct((1, side, side, model.in_channels), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


@pytest.fixture(scope="module")
def small():
    """Returns a network of two stages, its variables and some images for it."""
    model = shunted_jax.ShuntedTransformer(**SMALL)
    images = jax.random.normal(jax.random.key(1), (3, 24, 17, 3))
    return model, quick_jit(model.init)(jax.random.key(0), images), images


def test_lists_exactly_the_models_with_known_counts():
    assert shunted_jax.list_models() == sorted(PARAMETERS) == sorted(GMACS)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_counts_are_exact(name):
    model = shunted_jax.create_model(name)
    assert count_parameters(model) == PARAMETERS[name]
    assert round(count_macs(model, 224) / 1e9, 2) == GMACS[name]


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_tree_has_one_tensor_for_each_of_the_state_dict(name):
    model = shunted_jax.create_model(name)
    leaves = traverse_util.flatten_dict(abstract_variables(model))
    published = {n for n in state_dict_shapes(name) if not n.endswith("num_batches_tracked")}
    entries = key_map(model)
    assert {entry.torch_name for entry in entries} == published
    assert {entry.path for entry in entries} == set(leaves)
    assert len(entries) == len(leaves) == len(published)
    for entry in entries:
        shape = entry.to_torch(np.broadcast_to(np.int8(0), leaves[entry.path].shape)).shape
        assert shape == state_dict_shapes(name)[entry.torch_name]


def test_features_are_at_strides_4_to_32():
    model = shunted_jax.create_model("shunted_t")
    images = jax.ShapeDtypeStruct((2, 224, 160, 3), jnp.float32)
    maps = jax.eval_shape(
        lambda v, x: model.apply(v, x, method="features"), abstract_variables(model), images
    )
    assert [m.shape for m in maps] == [
        (2, 56, 40, 64),
        (2, 28, 20, 128),
        (2, 14, 10, 256),
        (2, 7, 5, 512),
    ]
    assert model.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("side", [32, 33, 47, 63])
def test_smallest_and_odd_sizes_compile(side):
    model = shunted_jax.create_model("shunted_t", num_classes=3)
    images = jax.ShapeDtypeStruct((1, side, 32, 3), jnp.float32)
    logits = jax.eval_shape(model.apply, abstract_variables(model), images)
    assert logits.shape == (1, 3)


def test_evaluation_is_the_default_mode(small):
    model, variables, images = small
    by_default = model.apply(variables, images)
    np.testing.assert_array_equal(by_default, model.apply(variables, images, train=False))
    with pytest.raises(TypeError):
        model.apply(variables, images, True)


def test_training_mode_updates_running_statistics_only(small):
    model, variables, images = small
    _, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
    assert updates.keys() == {"batch_stats"}
    before = traverse_util.flatten_dict(variables["batch_stats"])
    after = traverse_util.flatten_dict(updates["batch_stats"])
    assert before.keys() == after.keys()
    assert all(np.any(before[path] != after[path]) for path in before)


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(small):
    _, _, images = small
    model = shunted_jax.ShuntedTransformer(**SMALL, dtype=jnp.bfloat16, compute="reference")
    variables = quick_jit(model.init)(jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

    def outputs(variables, images):
        logits, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return logits, updates, model.apply(variables, images, method="features")

    logits, updates, maps = jax.eval_shape(outputs, variables, images)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    assert {feature_map.dtype for feature_map in maps} == {jnp.dtype("bfloat16")}
    # The softmax takes exponentials of float32 scores and of nothing else.
    program = str(jax.make_jaxpr(lambda v, x: model.apply(v, x))(variables, images))
    exponentials = [line for line in program.splitlines() if "= exp " in line]
    assert exponentials
    assert all("f32[" in line and "bf16[" not in line for line in exponentials)


def test_initial_values_have_the_published_spreads():
    model = shunted_jax.create_model("shunted_t", num_classes=10)
    variables = quick_jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    for path, leaf in traverse_util.flatten_dict(variables["params"]).items():
        if path[-1] == "bias":
            assert not leaf.any(), path
        elif path[-1] == "scale":
            assert (leaf == 1).all(), path
        else:
            groups = leaf.shape[-1] if leaf.shape[-2] == 1 else 1
            fan_out = np.prod(leaf.shape[:-2]) * leaf.shape[-1] / groups
            std = 0.02 if leaf.ndim == 2 else np.sqrt(2 / fan_out)
            spread = 4 / np.sqrt(2 * leaf.size)  # four standard errors of a standard deviation
            assert abs(leaf.std() / std - 1) < spread, path
            assert abs(leaf.mean()) < 4 * std / np.sqrt(leaf.size), path


def test_drop_path_rises_linearly_to_its_rate():
    model = shunted_jax.create_model("shunted_s", drop_path_rate=0.2)
    bound = model.bind({})
    rates = [rate for stage in bound.stages for rate in stage.drop_path_rates]
    np.testing.assert_allclose(rates, np.arange(19) / 18 * 0.2, rtol=0, atol=1e-12)


def test_drop_path_drops_whole_samples_and_rescales_the_others():
    x = jnp.ones((2000, 2, 3, 4))
    out = DropPath(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    per_sample = np.asarray(out).reshape(2000, -1)
    assert set(np.unique(per_sample)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (per_sample == per_sample[:, :1]).all()
    assert abs((per_sample[:, 0] == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)
    np.testing.assert_array_equal(DropPath(0.25).apply({}, x), x)


def test_every_drop_rate_acts_in_training_alone(small):
    _, variables, images = small
    plain = shunted_jax.ShuntedTransformer(**SMALL)
    expected = plain.apply(variables, images, train=True, mutable=["batch_stats"])[0]
    for rate in ("drop_rate", "attn_drop_rate", "drop_path_rate"):
        model = plain.clone(**{rate: 0.5})
        np.testing.assert_array_equal(
            model.apply(variables, images), plain.apply(variables, images)
        )
        keys = (jax.random.key(0), jax.random.key(0), jax.random.key(1))
        first, again, other = (
            model.apply(
                variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
            )[0]
            for key in keys
        )
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 1e-6, rate
        assert np.abs(first - expected).max() > 1e-6, rate


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 31, 64, 3), "31 x 64 pixels.*at least 32 x 32"),
        ((2, 64, 16, 3), "64 x 16 pixels.*at least 32 x 32"),
        ((64, 64, 3), r"\(64, 64, 3\).*rank 4.*image\[None\]"),
        ((2, 3, 64, 64), "wants 3; channels come last: transpose"),
        ((2, 64, 64, 1), "1 channels last.*wants 3.*in_channels=1"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, message):
    model = shunted_jax.create_model("shunted_t")
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_integer_images_are_refused():
    model = shunted_jax.create_model("shunted_t")
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.uint8)
    with pytest.raises(ValueError, match=r"uint8.*\(images / 255 - mean\) / std"):
        jax.eval_shape(model.init, jax.random.key(0), images)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_heads": (2, 4, 7, 16)}, "stage 3 is 256 channels wide, which 7 heads do not divide"),
        ({"num_heads": (1, 4, 8, 16)}, "stage 1 has 1 heads.*even"),
        ({"sr_ratios": (8, 3, 2, 1)}, "stage 2 has sr_ratio 3.*1 or even"),
        ({"depths": (1, 2, 4)}, "one entry a stage, and depths has 3, embed_dims has 4"),
        ({"depths": (1, 0, 4, 1)}, "stage 2 .* not positive"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate is 1.0, and must be in \[0, 1\)"),
        ({"compute": "fast"}, "compute is 'fast', and must be one of auto, reference, pallas"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        shunted_jax.create_model("shunted_t", **changed)


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="'shunted_x'.*shunted_b, shunted_s, shunted_t"):
        shunted_jax.create_model("shunted_x")
    with pytest.raises(ValueError, match="'drop_path'.*did you mean 'drop_path_rate'"):
        shunted_jax.create_model("shunted_t", drop_path=0.1)


@pytest.mark.parametrize("name", ["depthwise_form", "feed_forward_form", "attend_form"])
def test_fields_that_there_were_are_refused_with_the_one_in_their_place(name):
    for make in (shunted_jax.create_model, shunted_jax.ShuntedTransformer):
        with pytest.raises(ValueError, match=f"no field {name!r} any more: take 'compute', which"):
            make("shunted_t", **{name: None})
