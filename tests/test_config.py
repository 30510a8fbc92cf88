"""What can be set, and what is refused with the name that was meant."""

import ast
import dataclasses
import json
import runpy
from pathlib import Path

import pytest

from shunted_jax.config import Config, DataConfig, ModelConfig, differences, resolve, to_dict
from shunted_jax.tasks.network import make_classifier

REPOSITORY = Path(__file__).parent.parent
FILES = sorted((REPOSITORY / "configs").glob("[!_]*.py"))


def make(**changes):
    return Config(data=DataConfig(dataset="digits"), **changes)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_in_configs_resolves(path):
    module = runpy.run_path(str(path))
    resolve(module["get_config"]())
    assert f"--config=configs/{path.name}" in module["__doc__"]


# SPEC.md section 3, where a variant does not differ.
RECIPE = {
    "batch_size": 1024,
    "epochs": 300,
    "label_smoothing": 0.1,
    "ema_decay": None,
    "accumulate_steps": 1,
    "init_from": None,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.epsilon": 1e-8,
    "optimizer.weight_decay": 0.05,
    "optimizer.learning_rate": 5e-4 * 1024 / 512,
    "optimizer.min_learning_rate": 1e-5,
    "optimizer.warmup_epochs": 5,
    "optimizer.warmup_learning_rate": 1e-6,
    "optimizer.clip_norm": None,
    "optimizer.layer_decay": 1,
    "optimizer.freeze_backbone": False,
    "model.drop_rate": 0,
    "model.attn_drop_rate": 0,
    "model.dtype": "bfloat16",
    "augment.crop": "random_resized",
    "augment.crop_area": (0.08, 1),
    "augment.crop_aspect": (3 / 4, 4 / 3),
    "augment.flip_prob": 0.5,
    "augment.rand_augment_layers": 2,
    "augment.rand_augment_prob": 0.5,
    "augment.rand_augment_magnitude": 9,
    "augment.rand_augment_magnitude_std": 0.5,
    "augment.erase_prob": 0.25,
    "augment.erase_area": (0.02, 1 / 3),
    "augment.erase_aspect": (0.3, 1 / 0.3),
    "augment.mixup_alpha": 0.8,
    "augment.cutmix_alpha": 1,
    "augment.switch_prob": 0.5,
    "augment.repeats": 3,
    "data.dataset": "imagenet2012",
    "data.eval_split": "validation",
    "data.image_size": 224,
    "data.crop_pct": 224 / 256,
    "data.mean": (0.485, 0.456, 0.406),
    "data.std": (0.229, 0.224, 0.225),
}
VARIANTS = {
    "shunted_t": {"model.drop_path_rate": 0.1},
    "shunted_s": {"model.drop_path_rate": 0.2},
    "shunted_b": {"model.drop_path_rate": 0.3, "optimizer.clip_norm": 1.0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_shipped_recipe_is_the_published_one(name):
    config = resolve(runpy.run_path(str(REPOSITORY / "configs" / f"{name}.py"))["get_config"]())
    expected = RECIPE | {"model.name": name} | VARIANTS[name]
    found = {}
    for field in expected:
        found[field] = config
        for part in field.split("."):
            found[field] = getattr(found[field], part)
    assert found == expected


def test_published_numbers_are_written_out():
    text = (REPOSITORY / "configs" / "shunted_t.py").read_text()
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    written = {keyword.arg for call in calls for keyword in call.keywords}
    # What is off as a matter of course, and was not in the published code either.
    off = {"accumulate_steps", "init_from", "layer_decay", "freeze_backbone"}
    assert {field.split(".")[-1] for field in RECIPE} - off <= written


def test_unknown_names_are_refused_wherever_they_are_set():
    config = make()
    with pytest.raises(AttributeError, match="no field 'batchsize'; did you mean 'batch_size'"):
        config.batchsize = 3
    with pytest.raises(
        AttributeError, match="OptimizerConfig has no field 'lr'; the names are beta1"
    ):
        config.optimizer.lr = 3
    with pytest.raises(AttributeError, match="Config has no field 'batchsize'; did you mean"):
        make(batchsize=3)


@pytest.mark.parametrize("name", ["depthwise_form", "feed_forward_form", "attend_form"])
def test_fields_that_there_were_are_refused_with_the_one_in_their_place(name):
    config = make()
    for set_field in (
        lambda: ModelConfig(**{name: "shift"}),
        lambda: setattr(config.model, name, "shift"),
        lambda: dataclasses.replace(config.model, **{name: "shift"}),
    ):
        with pytest.raises(AttributeError) as caught:
            set_field()
        assert str(caught.value) == (
            f"ModelConfig has no field {name!r} any more: take 'compute', which is one of auto, "
            "reference, pallas"
        )
    for compute in ("auto", "reference", "pallas"):
        make_classifier(make(model=ModelConfig(compute=compute)), num_classes=3)
    # It is the network's field alone that there was.
    with pytest.raises(AttributeError, match=f"Config has no field {name!r}; the names are"):
        setattr(config, name, "shift")


def test_resolved_configuration_is_frozen():
    config = resolve(make())
    with pytest.raises(AttributeError, match="resolved: 'seed'"):
        config.seed = 1
    with pytest.raises(AttributeError, match="resolved: 'beta1'"):
        config.optimizer.beta1 = 0.8


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        (None, "batch_size", "32", "config.batch_size is '32', and must be of type int"),
        (None, "batch_size", 0, "config.batch_size is 0, and must be at least 1"),
        (None, "epochs", True, "config.epochs is True, and must be of type float"),
        (None, "epochs", 0.0, "config.epochs is 0.0, and must be above 0"),
        (None, "epochs", float("inf"), "config.epochs is inf, and must be finite"),
        ("optimizer", "learning_rate", float("nan"), "learning_rate is nan, and must be finite"),
        ("data", "std", (0.2, float("nan"), 0.2), "config.data.std is .*nan.*must be finite"),
        (None, "epochs", 5.0, "warmup_epochs is 5.0, which leaves nothing of the 5.0 epochs"),
        (None, "label_smoothing", 1.0, r"config.label_smoothing is 1.0.*\[0, 1\)"),
        (None, "data", 3, "config.data is 3, and must be of type DataConfig"),
        ("model", "dtype", "float16", "'float16', and must be 'float32' or 'bfloat16'"),
        ("data", "dataset", "", "config.data.dataset is empty"),
        ("data", "label_column", "image", r"\['image', 'image', 'split'\]: name three columns"),
        ("data", "image_dir", "x", "image_dir is 'x', and config.data.dataset='.*' is no table"),
        ("data", "image_size", 0, "config.data.image_size is 0, and must be at least 1"),
        ("data", "mean", [0.0] * 3, "config.data.mean is .* must be of type tuple"),
        ("data", "std", (0.2, 0.0, 0.2), "std above 0"),
        ("data", "mean", (0.5,), "three numbers each, .* or one each for grey images"),
        ("data", "mean", (0.5,) * 4, "three numbers each, .* or one each for grey images"),
        ("augment", "flip_prob", 2.0, "augment.flip_prob is 2.0"),
        ("augment", "crop", "round", "augment.crop is 'round'"),
        ("augment", "crop_area", (0.5, 1.5), "crop_area is .* at most 1"),
        ("augment", "crop_aspect", (2.0, 1.0), "crop_aspect is .* the least and the largest"),
        ("augment", "erase_area", (0.1,), "erase_area is"),
        ("augment", "repeats", 0, "augment.repeats is 0"),
        ("augment", "rand_augment_magnitude", 11.0, "rand_augment_magnitude is 11.0"),
        ("augment", "mixup_alpha", -0.1, "mixup_alpha is -0.1"),
        ("data", "on_bad_image", "ignore", "on_bad_image is 'ignore', .*'raise' or 'skip'"),
        ("data", "crop_pct", 0.0, r"crop_pct is 0.0, and must be in \(0, 1\]"),
        ("optimizer", "clip_norm", 0.0, "config.optimizer.clip_norm is 0.0, and must be above 0"),
        ("optimizer", "layer_decay", 0.0, "optimizer.layer_decay is 0.0, and must be above 0"),
        ("optimizer", "layer_decay", 1.1, "optimizer.layer_decay is 1.1, and must be at most 1"),
        ("optimizer", "freeze_backbone", True, "init_from is None.*name the weights"),
        ("optimizer", "freeze_backbone", 1, "freeze_backbone is 1, and must be of type bool"),
        ("model", "remat", "yes", "model.remat is 'yes', and must be of type bool"),
        (None, "ema_decay", 1.0, r"config.ema_decay is 1.0, and must be in \[0, 1\)"),
        (None, "init_from", "", "config.init_from is empty"),
        (None, "accumulate_steps", 0, "config.accumulate_steps is 0, and must be at least 1"),
        (None, "accumulate_steps", 3, "accumulate_steps is 3.* divide config.batch_size=1024"),
        ("mesh", "fsdp", 0, "config.mesh.fsdp 0"),
        ("mesh", "fsdp", -1, "-1 for the rest in one of them at most"),
    ],
)
def test_values_that_cannot_be_run_are_refused(section, field, value, message):
    config = make()
    setattr(getattr(config, section) if section else config, field, value)
    with pytest.raises(ValueError, match=message):
        resolve(config)


def test_frozen_backbone_has_no_rates_to_lower():
    config = make(init_from="weights")
    config.optimizer.freeze_backbone = True
    config.optimizer.layer_decay = 0.8
    with pytest.raises(ValueError, match="layer_decay is 0.8 and freeze_backbone True.*one of"):
        resolve(config)


def test_all_problems_are_listed_together():
    config = make(batch_size=0, seed=-1)
    with pytest.raises(ValueError, match=r"(?s)seed is -1.*batch_size is 0"):
        resolve(config)


def test_differences_name_fields_and_both_values():
    old = json.loads(json.dumps(to_dict(make())))
    assert differences(old, to_dict(make())) == []
    changed = make(seed=3)
    changed.data.mean = (0.0, 0.0, 0.0)
    assert differences(old, to_dict(changed)) == [
        "config.data.mean: [0.485, 0.456, 0.406] before, [0.0, 0.0, 0.0] now",
        "config.seed: 0 before, 3 now",
    ]
