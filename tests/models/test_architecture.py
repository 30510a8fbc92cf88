"""Which network it is: what of it is kept, how two are compared, and what is refused."""

import json

import jax.numpy as jnp
import pytest

from shunted_jax.errors import UserError
from shunted_jax.models import architecture, create_model
from shunted_jax.models.architecture import (
    architecture_of,
    differences_between,
    network_of,
    variant_of,
)

MODEL = architecture_of(create_model("shunted_t"))


def test_model_is_the_architecture_alone():
    how = {"dtype": jnp.bfloat16, "drop_path_rate": 0.2, "precision": "highest"}
    model = create_model("shunted_b", num_classes=7, **how)
    values = json.loads(json.dumps(architecture_of(model)))
    assert values == {
        "depths": [3, 4, 24, 2],
        "embed_dims": [64, 128, 256, 512],
        "num_heads": [2, 4, 8, 16],
        "mlp_ratios": [8, 8, 4, 4],
        "sr_ratios": [8, 4, 2, 1],
        "num_stem_convs": 2,
        "num_classes": 7,
        "in_channels": 3,
        "qkv_bias": True,
    }
    assert network_of(values, "x") == create_model("shunted_b", num_classes=7)
    assert variant_of(model) == "shunted_b"
    assert variant_of(model.clone(num_heads=(2, 4, 4, 16))) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_head": 4},
            r"^out describes a network that .*'num_head' is not known here \(did you mean "
            r"'num_heads'\?\): a newer program wrote it, so update this one",
        ),
        ({"num_heads": None}, "describes no network that can be"),
        ({"num_heads": [3, 4, 8, 16]}, "describes no network that can be: .*3 heads"),
    ],
)
def test_networks_that_are_not_known_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        network_of(MODEL | change, "out")


def test_missing_fields_of_a_network_are_named():
    fewer = {name: MODEL[name] for name in MODEL if name != "num_heads"}
    with pytest.raises(UserError, match="num_heads is missing, and there is depths, embed_dims"):
        network_of(fewer, "out")


def test_how_a_network_was_computed_is_ignored_by_name():
    how = {"depthwise_form": "shift", "attend_form": None, "feed_forward_form": "fused"}
    how |= {"dtype": "bfloat16", "param_dtype": "float32", "remat": True, "drop_path_rate": 0.3}
    assert network_of(MODEL | how, "out") == create_model("shunted_t")


def test_field_that_came_later_has_its_default(monkeypatch):
    earlier = [name for name in architecture.REQUIRED if name != "qkv_bias"]
    monkeypatch.setattr(architecture, "REQUIRED", earlier)
    older = {name: MODEL[name] for name in MODEL if name != "qkv_bias"}
    assert network_of(older, "out").qkv_bias is True


def test_networks_are_compared_by_what_they_are():
    one = create_model("shunted_t", dtype=jnp.bfloat16, drop_rate=0.1, remat=True)
    other = create_model("shunted_s", num_classes=5)
    assert not differences_between(one, create_model("shunted_t"))
    assert differences_between(one, other, but=["depths"]) == [
        ("num_stem_convs", 0, 1),
        ("num_classes", 1000, 5),
    ]
