"""`from_torch`: a state dict in memory to a network, with another head where that is asked for."""

import inspect
import warnings

import jax
import numpy as np
import pytest

import shunted_jax
from shunted_jax.errors import UserError
from shunted_jax.models.variables import initial_values
from tests.convert.files import FIELDS, small_weights

# As the state dict says it to someone who asks for other classes.
HAS_FIVE = "the state dict has a head of 5 classes, and num_classes is 7: params/head is freshly"
HAS_NONE = "the state dict has no head, and num_classes is 5: params/head is freshly"


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_head_is_the_one_asked_for():
    weights = small_weights()
    model, variables = shunted_jax.from_torch(weights)
    assert model == shunted_jax.ShuntedTransformer(**FIELDS)
    head = variables["params"].pop("head")
    np.testing.assert_array_equal(head["kernel"], weights["head.weight"].T)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, as_it_is = shunted_jax.from_torch(weights, num_classes=5)
        without, none = shunted_jax.from_torch(weights, num_classes=0)
        dropped, none_either = shunted_jax.from_torch(weights, drop_head=True)
    same(as_it_is["params"].pop("head"), head)
    assert without == dropped == model.clone(num_classes=0)

    with pytest.warns(UserWarning, match=HAS_FIVE):
        wider, other = shunted_jax.from_torch(weights, num_classes=7, key=jax.random.key(5))
    with pytest.warns(UserWarning, match=HAS_NONE):
        again, fresh = shunted_jax.from_torch(weights, num_classes=5, drop_head=True)
    assert wider == model.clone(num_classes=7)
    assert again == model
    for network, given, key in ((wider, other, 5), (again, fresh, 0)):
        values = initial_values(network, jax.random.key(key))["params"]["head"]
        drawn = given["params"].pop("head")
        same(drawn, jax.tree.map(lambda value, key=key: value(jax.random.key(key)), values))
        for leaf in drawn.values():
            assert (type(leaf), leaf.dtype) == (np.ndarray, np.float32)
    for given in (as_it_is, none, none_either, other, fresh):
        same(given, variables)


def test_a_state_dict_in_others_is_found_and_can_be_chosen():
    both = {"model": small_weights(seed=0), "ema": {"state": small_weights(seed=1)}, "epoch": 3}
    for asked, seed in ((None, 0), ("model", 0), ("ema/state", 1), ("ema", 1)):
        model, variables = shunted_jax.from_torch(both, from_key=asked)
        back = shunted_jax.to_torch(model, variables, num_batches_tracked=1000)
        same(back, small_weights(seed=seed))


def test_the_signature_says_what_can_be_asked_for():
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_class'"):
        shunted_jax.from_torch({}, num_class=5)
    names = ["state_dict", "model", "num_heads", "from_key", "prefix", "drop_head"]
    names += ["ignore_unexpected", "num_classes", "key"]
    assert list(inspect.signature(shunted_jax.from_torch).parameters) == names


@pytest.mark.parametrize("name", ["patch_embed1.conv.0.weight", "block1.0.mlp.fc1.weight"])
def test_few_bytes_that_pose_as_a_huge_tensor_take_no_memory(name):
    weights = small_weights()
    first, _, *rest = weights[name].shape
    weights[name] = np.broadcast_to(np.float32(0), (first, 1 << 40, *rest))
    with pytest.raises(UserError, match=f"too large   {name}"):
        shunted_jax.from_torch(weights)
