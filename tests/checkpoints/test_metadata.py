"""What a checkpoint says of itself: written, read, and refused with a sentence."""

import json

import jax.numpy as jnp
import pytest

from shunted_jax.checkpoints import FORMAT_VERSION, Metadata, Origin, RunRecord
from shunted_jax.checkpoints.folders import read_meta, with_checksum
from shunted_jax.errors import UserError
from shunted_jax.models import create_model
from shunted_jax.models.architecture import architecture_of, network_of, variant_of

ORIGIN = Origin(
    variant="shunted_t",
    source={"name": "ckpt_T.pth", "sha256": "0"},
    unwrapped=["model"],
    prefix="module.",
    renamed=2,
    ignored=[],
    head_left_out=False,
    num_batches_tracked={"patch_embed1.bn1.num_batches_tracked": 7},
)
RECORD = RunRecord(config={"seed": 3}, step=8, metrics={"eval/top1": 0.5}, best_by="eval_ema/top1")


def write(folder, values):
    (folder / "meta").mkdir()
    (folder / "meta" / "metadata").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("about", [{"conversion": ORIGIN}, {"run": RECORD, "class_names": ["a"]}])
def test_what_is_written_is_read(tmp_path, about):
    meta = Metadata(architecture_of(create_model("shunted_s")), **about)
    assert read_meta(write(tmp_path, with_checksum(meta))) == meta
    values = meta.to_json()
    assert values.keys() == {"format_version", "model", *about}
    assert values["format_version"] == FORMAT_VERSION


def test_model_is_the_architecture_alone():
    model = create_model("shunted_b", num_classes=7, dtype=jnp.bfloat16, drop_path_rate=0.2)
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


MODEL = architecture_of(create_model("shunted_t"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format_version": 3},
            r"has format 3, and this program reads formats up to 2: a newer program wrote it",
        ),
        (
            {"class_name": ["a"]},
            r"'class_name' is not known here \(did you mean 'class_names'\?\): a newer program "
            "wrote it, so update this one",
        ),
        (
            {"task": "segmentation"},
            r"'task' is not known here \(the fields are class_names, conversion, model, run\)",
        ),
        (
            {"run": {"config": {}, "metric": {}}},
            r"\(its run\).*'metric' is not known here \(did you mean 'metrics'\?\)",
        ),
        ({"run": {"step": 3}}, r"\(its run\).*: config is missing, and there is step"),
        ({"conversion": {"variant": "x"}}, r"\(its conversion\).*: source, unwrapped, .* is missi"),
    ],
)
def test_metadata_that_are_not_known_are_refused(tmp_path, change, message):
    values = Metadata(MODEL, run=RECORD).to_json() | change
    with pytest.raises(UserError, match=message) as raised:
        read_meta(write(tmp_path, values))
    assert str(tmp_path) in str(raised.value)


def test_missing_model_is_named():
    with pytest.raises(UserError, match="metadata of out cannot be read: model is missing"):
        Metadata.from_json({"class_names": ["a"]}, "out")


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
