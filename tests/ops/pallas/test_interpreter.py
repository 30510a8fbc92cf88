"""The kernels in Pallas's TPU interpreter, which looks for races and for reads out of bounds.

It simulates two cores that share the grid's parallel steps, has memory hold NaN until it is
written, and raises where a kernel reads or writes beyond an array.
"""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from benchmarks.tpu_check.kernels import compare_attention, compare_feed_forward
from benchmarks.tpu_check.shapes import AttentionShape, FeedForwardShape, kernel_shapes
from shunted_jax.errors import UserError
from shunted_jax.models import create_model, list_models
from shunted_jax.models.mlp import DetailFeedForward
from shunted_jax.ops.pallas import feed_forward_call, feed_forward_kernel
from shunted_jax.ops.pallas.feed_forward import call_kernels
from tests.ops.pallas.shape_classes import (
    IMAGES,
    TiledFeedForward,
    attention_class,
    feed_forward_class,
)

CHECKED = pltpu.InterpretParams(detect_races=True, num_cores_or_threads=2, random_seed=1)
# The published sizes; maps whose sides are odd and not alike; maps that patches do not divide.
SIZES = {"224": (224, 224), "384": (384, 384), "200x232": (200, 232), "250": (250, 250)}
BATCHES = (8, 24, 64)  # of a device: the least, a few tiles, the recipe's
# What the kernels refuse: of stage 1 at 384 pixels both, and at 250 the feed-forward.
REFUSED = {"224": [], "384": [(9216, 576), (96, 96)], "200x232": [], "250": [(62, 62)]}
TOLERANCES = {"float32": 1e-6, "bfloat16": 5e-3}
RACE = "RACE DETECTED"


@pytest.fixture(autouse=True)
def no_races(capfd):
    """Fails a test in which the interpreter says that it saw a race; jax 0.12's raises besides."""
    yield
    pltpu.reset_tpu_interpret_mode_state()
    assert RACE not in capfd.readouterr().out


def classes(name, size):
    """Returns the shapes to check for a network's images of a size, and what is refused."""
    shapes, refused = kernel_shapes(create_model(name), *SIZES[size]), []
    found = {"attention": {}, "feed_forward": {}}
    for shape in shapes.attention:
        try:
            found["attention"][attention_class(shape)] = None
        except UserError:
            refused.append(shape[:2])
    for shape in shapes.feed_forward:
        try:
            for batch in BATCHES:
                found["feed_forward"][feed_forward_class(shape, batch)] = None
        except UserError:
            refused.append(shape[:2])
    return found, refused


@functools.cache  # several networks and sizes have shapes of one class
def check(shape, dtype):
    if isinstance(shape, TiledFeedForward):
        (shape, tile, tiles) = shape
        distances = compare_feed_forward(shape, tile * tiles, dtype, tile, CHECKED)
    else:
        distances = compare_attention(shape, IMAGES, dtype, CHECKED)
    for name, distance in distances.kernel.items():
        # NaN is not below, either.
        assert distance < TOLERANCES[dtype], (shape, name, distance)
        if dtype == "bfloat16":
            assert distance <= distances.plain[name], (shape, name, distances.plain[name])


def test_attention_with_a_part_of_a_register_left():
    check(AttentionShape(queries=140, keys=20, heads=1, d=32), "float32")


def test_feed_forward_with_two_tiles_and_two_chunks():
    check(TiledFeedForward(FeedForwardShape(3, 4, 64, 256), tile=8, tiles=2), "float32")


@pytest.mark.proof
@pytest.mark.parametrize("kernel", ["attention", "feed_forward"])
@pytest.mark.parametrize(
    ("size", "dtype"), [*((size, "float32") for size in SIZES), ("224", "bfloat16")]
)
def test_every_class_of_shapes(size, dtype, kernel):
    found, refused = classes("shunted_t", size)
    assert refused == REFUSED[size]
    for shape in found[kernel]:
        check(shape, dtype)


@pytest.mark.proof
def test_all_networks_have_shapes_of_the_same_classes():
    for size in SIZES:
        assert len({str(classes(name, size)) for name in list_models()}) == 1


def test_classes_are_those_of_the_networks():
    found, refused = classes("shunted_t", "224")
    assert not refused
    # Stage 1, coarse: 3,136 queries, 49 keys; the last stage: 49 of each, 16 heads.
    assert {(320, 33, 1, 32), (49, 33, 8, 32)} <= found["attention"].keys()
    assert len(found["attention"]) == 7
    tiles = Counter((tile, tiles) for _, tile, tiles in found["feed_forward"])
    assert tiles == {(8, 1): 3, (8, 3): 3, (16, 3): 1, (32, 2): 1, (32, 1): 1}
    widths = {shape.dim for shape, *_ in found["feed_forward"]}
    assert widths == {64, 128, 256}


# What the interpreter has to find is found. A width of its own keeps each broken kernel from being
# taken for a sound one, as kernels are traced once for a shape.
def broken(width, change=lambda function: function):
    """Runs the feed-forward on two tiles of a map of that width, or what `change` makes of it."""
    module, x = DetailFeedForward(128), jnp.ones((16, 2, width, 16))
    params = module.init(jax.random.key(0), x)["params"]
    run = change(lambda x: jnp.sum(call_kernels(8, CHECKED, x, params)))
    return np.asarray(jax.jit(run)(x))


def test_sums_of_tiles_on_two_cores_would_be_a_race(monkeypatch, capfd):
    params = feed_forward_call._compiler_params
    monkeypatch.setattr(
        feed_forward_call, "_compiler_params", lambda *a: params(*a[:3], over_tiles="parallel")
    )
    said = ""
    try:
        broken(width=5, change=jax.grad)
    except jax.errors.JaxRuntimeError as error:  # jax 0.12 raises, others print
        said = str(error)
    assert RACE in said + capfd.readouterr().out


def test_a_row_beyond_the_border_would_be_out_of_bounds(monkeypatch):
    shifted = feed_forward_kernel._shifted
    monkeypatch.setattr(
        feed_forward_kernel, "_shifted", lambda ref, row, tap: shifted(ref, row + 1, tap)
    )
    with pytest.raises(Exception, match="Out-of-bounds read"):
        broken(width=6)


def test_a_border_that_is_not_cleared_would_be_seen(monkeypatch):
    monkeypatch.setattr(feed_forward_kernel, "_clear_border", lambda ref: None)
    assert np.isnan(broken(width=7))
