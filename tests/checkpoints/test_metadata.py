"""What a checkpoint says of itself: written, read, and refused with a sentence."""

import json

import pytest

from shunted_jax.checkpoints import FORMAT_VERSION, Metadata, Origin, RunRecord
from shunted_jax.checkpoints.folders import read_meta, with_checksum
from shunted_jax.errors import UserError
from shunted_jax.models import create_model
from shunted_jax.models.architecture import architecture_of

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
