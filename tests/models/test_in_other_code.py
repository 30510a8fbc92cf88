"""The network as a module among others': what people's own JAX and Flax code does with it."""

import copy
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx, serialization, traverse_util
from flax.core import freeze, unfreeze
from flax.training.train_state import TrainState
from jax.sharding import PartitionSpec as P

from shunted_jax.models import ShuntedTransformer
from tests.support.quick import quick_jit
from tests.support.tiny import ONE_STAGE

FIELDS = ONE_STAGE | {"embed_dims": (4,), "mlp_ratios": (1,), "num_classes": 3}
MODEL = ShuntedTransformer(**FIELDS)
IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
LABELS = jnp.array([0, 2, 1, 2])


@pytest.fixture(scope="module")
def variables():
    return quick_jit(MODEL.init)(jax.random.key(0), IMAGES)


def compiled(function, *arguments):
    return quick_jit(function)(*arguments)


def loss(params, batch_stats, images, labels):
    logits = MODEL.apply({"params": params, "batch_stats": batch_stats}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def assert_close(ours, theirs, atol=2e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), dict(ours), dict(theirs)
    )


class Frames(nn.Module):
    """Scores a video's frames one after the other."""

    @nn.compact
    def __call__(self, count, images):
        return count + 1, ShuntedTransformer(**FIELDS, name="network")(images)


class Detector(nn.Module):
    """A pyramid over a backbone that is given to it (flax#2033)."""

    backbone: nn.Module

    @nn.compact
    def __call__(self, images):
        return [nn.Dense(2)(level) for level in self.backbone.features(images)]


@pytest.mark.parametrize("run", [jax.eval_shape, pytest.param(compiled, marks=pytest.mark.proof)])
def test_transformations_of_functions_and_of_modules(variables, run):
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1]), variables)
    several = {"variable_axes": {"params": 0, "batch_stats": 0}, "split_rngs": {"params": True}}
    ensemble = nn.vmap(ShuntedTransformer, in_axes=None, axis_size=2, **several)(**FIELDS)
    over_time = nn.scan(
        Frames, variable_broadcast=("params", "batch_stats"), split_rngs={"params": False}
    )()
    inside = {name: {"network": tree} for name, tree in variables.items()}

    def results(variables, two, inside, images, labels):
        params, stats = variables["params"], variables["batch_stats"]
        one_by_one = jax.vmap(jax.grad(loss), (None, None, 0, 0))(
            params, stats, images[:, None], labels[:, None]
        )
        return {
            "logits": MODEL.apply(variables, images),
            "nn.vmap": ensemble.apply(two, images),
            "nn.scan": over_time.apply(inside, 0, images[:, None])[1][:, 0],
            "gradient": jax.grad(loss)(params, stats, images, labels),
            "example by example": jax.tree.map(lambda leaf: leaf.mean(0), one_by_one),
        }

    found = run(results, variables, two, inside, IMAGES, LABELS)
    assert found["nn.vmap"].shape == (2, *found["nn.scan"].shape) == (2, 4, 3)
    assert jax.tree.structure(found["example by example"]) == jax.tree.structure(found["gradient"])
    if run is jax.eval_shape:
        return
    np.testing.assert_allclose(found["nn.vmap"][0], found["logits"], rtol=0, atol=2e-5)
    assert np.abs(found["nn.vmap"][1] - found["logits"]).max() > 1e-3
    np.testing.assert_allclose(found["nn.scan"], found["logits"], rtol=0, atol=2e-5)
    assert_close(found["example by example"], found["gradient"])


@pytest.mark.parametrize("policy", ["dots_with_no_batch_dims_saveable", "everything_saveable"])
def test_less_memory_by_policies_and_by_flax(variables, policy):
    policy = getattr(jax.checkpoint_policies, policy)
    of_flax = nn.remat(ShuntedTransformer, policy=policy)(**FIELDS)
    arguments = variables["params"], variables["batch_stats"], IMAGES, LABELS

    def remat(params, stats, images, labels):
        logits = of_flax.apply({"params": params, "batch_stats": stats}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    for function in (jax.checkpoint(loss, policy=policy), remat):
        grads = jax.eval_shape(jax.grad(function), *arguments)
        assert jax.tree.structure(grads) == jax.tree.structure(variables["params"])


@pytest.mark.devices(2)
def test_pmap_and_shard_map(variables):
    devices, kinds = jax.devices()[:2], (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("data",), axis_types=kinds, devices=devices)
    split = jax.shard_map(MODEL.apply, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))
    logits = quick_jit(split)(variables, IMAGES)
    mapped = jax.pmap(MODEL.apply, in_axes=(None, 0), devices=devices)
    again = mapped(variables, IMAGES.reshape(2, 2, 8, 8, 3)).reshape(4, 3)
    np.testing.assert_allclose(again, logits, rtol=0, atol=2e-5)
    assert np.std(logits) > 1e-3


@pytest.mark.parametrize(
    "context",
    [
        jax.debug_nans(True),
        jax.checking_leaks(),
        jax.numpy_dtype_promotion("strict"),
        jax.enable_x64(True),
    ],
    ids=["debug_nans", "checking_leaks", "strict promotion", "x64"],
)
def test_modes_of_jax_change_nothing_of_a_training_step(context, variables):
    model = MODEL.clone(drop_path_rate=0.3, drop_rate=0.1, attn_drop_rate=0.1)

    def step(params, stats, images, key):
        def of_params(params):
            logits, updates = model.apply(
                {"params": params, "batch_stats": stats},
                images,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            return jnp.sum(logits * logits), updates

        return jax.grad(of_params, has_aux=True)(params)

    arguments = variables["params"], variables["batch_stats"], IMAGES, jax.random.key(3)
    expected = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), arguments[:2])
    with context:
        grads, updates = jax.eval_shape(step, *arguments)
    found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (grads, updates["batch_stats"]))
    assert found == expected


def test_numbers_of_other_kinds_and_no_images_at_all(variables):
    def cast(dtype):
        return jax.tree.map(lambda leaf: leaf.astype(dtype), (variables, IMAGES))

    in_bfloat16 = MODEL.clone(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    doubles = np.asarray(IMAGES, np.float64)
    for model, arguments, rows in (
        (MODEL, (variables, doubles), 4),
        (MODEL, (variables, IMAGES[:0]), 0),
        (in_bfloat16, cast(jnp.bfloat16), 4),
    ):
        logits = jax.eval_shape(model.apply, *arguments)
        assert (logits.shape, logits.dtype) == ((rows, 3), jnp.float32)

    @quick_jit
    def both(whole, half):
        return MODEL.apply(*whole), MODEL.clone(dtype=jnp.float16).apply(*half)

    logits, in_half = both((variables, IMAGES), cast(jnp.float16))
    assert in_half.dtype == jnp.float32
    np.testing.assert_allclose(in_half, logits, rtol=0, atol=2e-2)


@pytest.mark.parametrize("num_classes", [1, 2])
def test_one_class_and_two(num_classes):
    model = MODEL.clone(num_classes=num_classes)
    shape = jax.eval_shape(model.init_with_output, jax.random.key(0), IMAGES)[0]
    assert shape.shape == (4, num_classes)


def test_it_is_a_value_like_any_module(variables):
    same = ShuntedTransformer(**FIELDS | {"depths": [1]})
    copies = (same, copy.deepcopy(MODEL), pickle.loads(pickle.dumps(MODEL)), MODEL.clone())
    assert {MODEL, *copies} == {MODEL}  # equal, with equal hashes
    traced = []

    def score(model, variables, images):
        traced.append(model)
        return model.apply(variables, images)

    score = jax.jit(score, static_argnums=0)  # flax#1495
    for model in copies:
        score.eval_shape(model, variables, IMAGES)
    assert len(traced) == 1


def test_tables_and_what_lies_between():
    # flax#4023, #3716: the arithmetic, which calls each method of a module.
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    table = MODEL.clone(drop_path_rate=0.1).tabulate(
        keys,
        IMAGES,
        train=True,
        depth=1,
        compute_flops=True,
        compute_vjp_flops=True,
        console_kwargs={"width": 160, "force_terminal": False},
    )
    named = re.findall(r"^│ *(\w*) *│ (\w+) +│", table, re.M)
    assert [*named[:2], named[-1]] == [
        ("", "ShuntedTransformer"),
        ("stem", "ConvStem"),
        ("head", "Dense"),
    ]
    assert re.search(r"Total Parameters: 1,023 ", table)

    detector = Detector(MODEL.clone(num_classes=0))
    levels, inside = jax.eval_shape(detector.init_with_output, keys, IMAGES)
    assert [level.shape for level in levels] == [(4, 2, 2, 2)]
    assert inside["params"].keys() == {"backbone", "Dense_0"}

    def captured(keys):
        variables = MODEL.init(keys, IMAGES)
        return MODEL.apply(
            variables, IMAGES, capture_intermediates=True, mutable=["intermediates"]
        )[1]["intermediates"]

    between = traverse_util.flatten_dict(jax.eval_shape(captured, keys), sep="/")
    assert {"stem/__call__", "stages_0/__call__", "head/__call__"} <= between.keys()


def test_it_is_exported_for_other_machines():
    (batch,) = jax.export.symbolic_shape("b")
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
    images = jax.ShapeDtypeStruct((batch, 8, 8, 3), jnp.float32)
    platforms = ("cpu", "cuda", "tpu")
    exported = jax.export.export(jax.jit(MODEL.apply), platforms=platforms)(shapes, images)
    assert exported.platforms == platforms
    assert exported.out_avals[0].shape == (batch, 3)


def test_a_training_loop_of_ones_own(variables):
    """TrainState, `multi_transform`, FrozenDict, msgpack: a frozen backbone learns a new head."""
    frozen = freeze(variables)
    labels = traverse_util.path_aware_map(
        lambda path, _: "head" if path[0] == "head" else "rest", unfreeze(frozen["params"])
    )
    tx = optax.multi_transform({"head": optax.adamw(0.1), "rest": optax.set_to_zero()}, labels)
    state = TrainState.create(apply_fn=MODEL.apply, params=variables["params"], tx=tx)

    @quick_jit
    def train_step(state, images):
        grads = jax.grad(loss)(state.params, frozen["batch_stats"], images, LABELS)
        return state.apply_gradients(grads=grads)

    after = train_step(state, IMAGES)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.params, state.params)
    assert {name for name, tree in moved.items() if any(jax.tree.leaves(tree))} == {"head"}
    restored = serialization.from_bytes(state, serialization.to_bytes(after))
    jax.tree.map(np.testing.assert_array_equal, restored.params, after.params)
    assert int(restored.step) == 1


@pytest.mark.proof
def test_nnx_trains_it(variables):
    bridged = nnx.bridge.ToNNX(MODEL, rngs=nnx.Rngs(0)).lazy_init(IMAGES)
    nnx.update(bridged, nnx.bridge.variables.linen_vars_to_nnx_attrs(variables))
    optimizer = nnx.Optimizer(bridged, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        def of_model(model):
            logits = model(IMAGES, train=True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

        value, grads = nnx.value_and_grad(of_model)(model)
        optimizer.update(model, grads)
        return value

    first, second = train_step(bridged, optimizer), train_step(bridged, optimizer)
    assert second < first
