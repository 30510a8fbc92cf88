"""Real files as people have them, through the real command."""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath

import shunted_jax
from shunted_jax.checkpoints import read_weights
from shunted_jax.locks import alone_at
from shunted_jax.models.architecture import architecture_of
from tests.convert import files
from tests.convert.files import (
    FIELDS,
    SMALLEST,
    convert,
    save,
    small_weights,
    to_torch_tensors,
    torch,
)
from tests.golden.cases import case_inputs, load, logits_and_maps, state_dict

REPOSITORY = Path(__file__).parent.parent.parent
BOTH = pytest.mark.parametrize("kind", ["zip", "legacy"])


def assert_holds(folder, weights, **fields):
    files.assert_holds(folder, weights, **{**FIELDS, **fields})


@pytest.mark.parametrize("case", ["eval_shunted_t_224", "eval_shunted_s_224", "eval_shunted_b_224"])
def test_published_variants_give_the_measured_logits(case, tmp_path, capsys):
    golden = load(case)
    variant, weights, images = case_inputs(golden)
    save(to_torch_tensors(weights), tmp_path / "ckpt.pth")
    convert(tmp_path / "ckpt.pth", tmp_path / "out")
    said = capsys.readouterr().out
    assert f"variant     {variant}\n" in said
    assert f'shunted_jax.load_pretrained("{tmp_path / "out"}")' in said
    model, variables = shunted_jax.load_pretrained(tmp_path / "out")
    assert model == shunted_jax.create_model(variant)
    logits, _ = logits_and_maps(model, variables, images)
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=2e-5)


@BOTH
def test_flat_state_dict(kind, tmp_path):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert_holds(tmp_path / "out", weights)


def test_safetensors(tmp_path):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.safetensors", "safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / "out")
    assert_holds(tmp_path / "out", weights)


@BOTH
def test_training_checkpoint_with_a_namespace(kind, tmp_path):
    weights = small_weights()
    saved = {
        "model": to_torch_tensors(weights),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3}]},
        "lr_scheduler": {"last_epoch": 7},
        "epoch": 7,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(lr=1e-3, model="shunted_t"),
    }
    save(saved, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert_holds(tmp_path / "out", weights)
    assert read_weights(tmp_path / "out").meta.conversion.unwrapped == ["model"]


@BOTH
@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_ema", "state_dict_ema", "net"])
def test_wrappings(wrapper, kind, tmp_path, capsys):
    weights = small_weights()
    save({wrapper: to_torch_tensors(weights), "epoch": 3}, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert_holds(tmp_path / "out", weights)
    assert f"unwrapped   {wrapper}\n" in capsys.readouterr().out


@BOTH
@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "encoder.", "model.", "net.", "module.model.backbone."]
)
def test_prefixes(prefix, kind, tmp_path, capsys):
    weights = small_weights()
    tensors = {prefix + name: t for name, t in to_torch_tensors(weights).items()}
    save(tensors, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert_holds(tmp_path / "out", weights)
    assert f"stripped    {prefix}\n" in capsys.readouterr().out


@BOTH
def test_several_backbones_ask_for_the_prefix(kind, tmp_path, capsys):
    rgb, depth = small_weights(seed=0), small_weights(seed=1)
    tensors = {f"rgb.{name}": t for name, t in to_torch_tensors(rgb).items()}
    tensors |= {f"depth.{name}": t for name, t in to_torch_tensors(depth).items()}
    save(tensors, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out", status=2)
    said = capsys.readouterr().err
    assert "2 Shunted Transformers, under 'depth.', 'rgb.'" in said
    assert "--prefix" in said
    convert(tmp_path / "w.pth", tmp_path / "out", "--prefix", "nir", status=2)
    assert "no Shunted Transformer lies under the prefix 'nir'" in capsys.readouterr().err
    asked = ("--prefix", "depth", "--ignore-unexpected")
    convert(tmp_path / "w.pth", tmp_path / "out", *asked)
    assert_holds(tmp_path / "out", depth)


@BOTH
def test_flattened_depthwise_names(kind, tmp_path, capsys):
    weights = small_weights()
    tensors = to_torch_tensors(weights)
    tensors = {name.replace("dwconv.dwconv", "dwconv"): t for name, t in tensors.items()}
    save(tensors, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert_holds(tmp_path / "out", weights)
    assert "renamed     6 tensors" in capsys.readouterr().out


@BOTH
def test_backbone_without_a_head(kind, tmp_path, capsys):
    weights = {n: t for n, t in small_weights().items() if not n.startswith("head")}
    save(to_torch_tensors(weights), tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert_holds(tmp_path / "out", weights, num_classes=0)
    assert "classes     none" in capsys.readouterr().out


def test_head_is_dropped_on_demand(tmp_path, capsys):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out", "--drop-head")
    backbone = {n: t for n, t in weights.items() if not n.startswith("head")}
    assert_holds(tmp_path / "out", backbone, num_classes=0)
    assert "left out    head\n" in capsys.readouterr().out


@BOTH
def test_further_tensors_are_refused_unless_told_otherwise(kind, tmp_path, capsys):
    weights = small_weights()
    tensors = {f"backbone.{name}": t for name, t in to_torch_tensors(weights).items()}
    tensors |= {"projector.conv.weight": torch.ones(3), "backbone.message_tokens": torch.ones(2)}
    save(tensors, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out", status=2)
    said = capsys.readouterr().err
    assert "unexpected  projector.conv.weight" in said
    assert "unexpected  message_tokens" in said
    assert list(tmp_path.iterdir()) == [tmp_path / "w.pth"]
    convert(tmp_path / "w.pth", tmp_path / "out", "--ignore-unexpected")
    assert "left out    projector.conv.weight, message_tokens\n" in capsys.readouterr().out
    assert_holds(tmp_path / "out", weights)


@BOTH
def test_missing_counters_are_no_loss(kind, tmp_path):
    weights = small_weights()
    tensors = to_torch_tensors(weights)
    tensors = {n: t for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
    save(tensors, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert_holds(tmp_path / "out", weights)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_become_float32(dtype, kind, tmp_path):
    tensors = to_torch_tensors(small_weights(), dtype)
    save(tensors, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert_holds(
        tmp_path / "out",
        {n: (t.float() if t.is_floating_point() else t).numpy() for n, t in tensors.items()},
    )


def test_unknown_shapes_are_custom_and_say_so(tmp_path, capsys):
    save(to_torch_tensors(small_weights()), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out")
    assert "variant     custom: depths (2, 1), embed_dims (64, 96)" in capsys.readouterr().out
    convert(tmp_path / "w.pth", tmp_path / "other", "--model", "shunted_t", status=2)
    said = capsys.readouterr().err
    assert "does not hold a shunted_t" in said
    assert "depths: (2, 1) in the file, (1, 2, 4, 1) in shunted_t" in said


def test_heads_that_do_not_show_are_asked_for(tmp_path, capsys):
    weights = small_weights(embed_dims=(16, 24), num_heads=(4, 3))
    save(to_torch_tensors(weights), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out", status=2)
    assert "stage 1 is 16 channels wide" in capsys.readouterr().err
    model, _ = shunted_jax.from_torch(weights, num_heads=(4, 3))
    assert model.num_heads == (4, 3)


def test_all_problems_are_listed_with_both_shapes(tmp_path, capsys):
    tensors = to_torch_tensors(small_weights())
    del tensors["block1.1.attn.kv2.bias"]
    tensors["norm2.bias"] = torch.zeros(7)
    tensors["block1.0.norm1.bias"] = torch.zeros(64, dtype=torch.int32)
    tensors["surprise"] = torch.zeros(3)
    save(tensors, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out", status=2)
    said = capsys.readouterr().err
    for problem in (
        "missing     block1.1.attn.kv2.bias",
        "wrong shape norm2.bias: (7,) in the file, (96,) in the network",
        "wrong type  block1.0.norm1.bias: int32",
        "unexpected  surprise",
    ):
        assert problem in said
    assert list(tmp_path.iterdir()) == [tmp_path / "w.pth"]


def test_numbers_that_are_not_finite_are_named(tmp_path, capsys):
    tensors = to_torch_tensors(small_weights())
    tensors["block1.0.mlp.fc1.weight"][3, 4] = float("nan")
    tensors["norm2.weight"][0] = float("inf")
    save(tensors, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out")
    said = capsys.readouterr().out
    assert "warning: not finite in 2 tensors" in said
    assert "params/stages_0/blocks_0/mlp/fc1/kernel" in said
    assert "params/stages_1/norm/scale" in said


def test_metadata_says_where_the_weights_come_from(tmp_path):
    import hashlib

    save({"model": to_torch_tensors(small_weights())}, tmp_path / "mine.pth")
    convert(tmp_path / "mine.pth", tmp_path / "out", "--drop-head")
    meta = read_weights(tmp_path / "out").meta
    digest = hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    assert meta.conversion.source == {"name": "mine.pth", "sha256": digest}
    assert meta.conversion.head_left_out is True
    assert meta.run is None
    model = shunted_jax.load_pretrained(tmp_path / "out")[0]
    assert meta.model == architecture_of(model)
    assert json.dumps(meta.to_json())


def test_what_is_there_is_only_replaced_on_demand(tmp_path, capsys):
    first, second = small_weights(seed=0), small_weights(seed=1)
    save(to_torch_tensors(first), tmp_path / "1.pth")
    save(to_torch_tensors(second), tmp_path / "2.pth")
    convert(tmp_path / "1.pth", tmp_path / "out")
    convert(tmp_path / "2.pth", tmp_path / "out", status=2)
    assert "exists already" in capsys.readouterr().err
    assert_holds(tmp_path / "out", first)
    convert(tmp_path / "2.pth", tmp_path / "out", "--overwrite")
    assert_holds(tmp_path / "out", second)
    assert {path.name for path in tmp_path.iterdir()} == {"1.pth", "2.pth", "out"}


def test_only_what_a_conversion_made_is_replaced(tmp_path, capsys):
    save(to_torch_tensors(small_weights(**SMALLEST)), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "there")
    for folder in ("mine", "run/checkpoints/1"):
        (tmp_path / folder / "train").mkdir(parents=True)
    for item in ("params", "batch_stats", "meta"):
        (tmp_path / "run/checkpoints/1" / item).mkdir()
    (tmp_path / "lost").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    for source, out, options in (
        ("w.pth", "mine", ()),
        ("w.pth", "run", ()),
        ("w.pth", "run/checkpoints/1", ()),
        ("w.pth", "w.pth", ()),
        ("w.pth", ".", ()),
        ("there", "mine", ["--to-hub-folder"]),
        ("there", "there", ["--to-torch"]),
    ):
        convert(*options, "--overwrite", tmp_path / source, tmp_path / out, status=2)
        assert "and --overwrite replaces nothing else: name another" in capsys.readouterr().err
    convert(tmp_path / "w.pth", tmp_path / "lost", "--overwrite", status=2)
    assert "lost is a link to what is not there" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before

    # Of a link, the link alone is replaced.
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "empty").mkdir()
    for out in ("link", "empty"):
        convert(tmp_path / "w.pth", tmp_path / out, "--overwrite")
        assert (tmp_path / out / "params").is_dir()
        assert not (tmp_path / out).is_symlink()
    assert not list(tmp_path.glob(".*"))


def test_interruption_while_writing_leaves_nothing_that_looks_like_a_result(
    tmp_path, monkeypatch, capsys
):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "old")
    path_class = type(epath.Path(tmp_path))

    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(path_class, "rename", interrupted)
    for out, extra in (("new", ()), ("old", ("--overwrite",))):
        convert(tmp_path / "w.pth", tmp_path / out, *extra, status=130)
        assert capsys.readouterr().err == "convert_weights.py: interrupted\n"
    monkeypatch.undo()
    assert not (tmp_path / "new").exists()
    assert_holds(tmp_path / "old", weights)


def test_what_is_being_written_is_left_alone(tmp_path, capsys):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "there")
    arguments = [(tmp_path / "w.pth", tmp_path / "out")]
    arguments += [(tmp_path / "there", tmp_path / "out", "--to-torch")]
    for argument in arguments:
        with alone_at(epath.Path(tmp_path / "out")):
            convert(*argument, "--overwrite", status=1)
        assert f"{tmp_path}/out is in use by process {os.getpid()} on " in capsys.readouterr().err
        assert {path.name for path in tmp_path.iterdir()} == {"w.pth", "there"}

    # What a killed process left in the way.
    for name in (".there.incomplete", ".there.replaced"):
        (tmp_path / name / "params").mkdir(parents=True)
    convert(tmp_path / "w.pth", tmp_path / "there", "--overwrite")
    assert_holds(tmp_path / "there", weights)
    assert {path.name for path in tmp_path.iterdir()} == {"w.pth", "there"}


def test_a_disk_that_takes_no_more_is_said_and_nothing_is_left(tmp_path, capsys):
    save(to_torch_tensors(small_weights(**SMALLEST)), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "there")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most[1]))
    try:
        for name in ("b.pth", "b.safetensors", "b.pdparams"):
            convert("--to-torch", tmp_path / "there", tmp_path / name, status=1)
        convert("--to-hub-folder", tmp_path / "there", tmp_path / "hub", status=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    lines = capsys.readouterr().err.splitlines()
    assert [line.count("nothing can be written into ") for line in lines] == [1, 1, 1, 1], lines
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["back.pth", "back.safetensors"])
def test_there_and_back_is_bit_identical(name, tmp_path, capsys):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out")
    convert("--to-torch", tmp_path / "out", tmp_path / name)
    if name.endswith(".pth"):
        back = torch.load(tmp_path / name, weights_only=True)
        assert list(back) == list(weights)
    else:
        from safetensors.torch import load_file

        back = load_file(tmp_path / name)
        assert set(back) == set(weights)
    for key, tensor in to_torch_tensors(weights).items():
        assert back[key].dtype == tensor.dtype
        assert torch.equal(back[key], tensor), key
    convert("--to-torch", tmp_path / "out", tmp_path / name, status=2)
    assert "exists already" in capsys.readouterr().err
    convert("--to-torch", tmp_path / "out", tmp_path / "x.pth", "--drop-head", status=2)
    assert not (tmp_path / "x.pth").exists()


def test_command_line_as_a_person_runs_it(tmp_path):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.pth")

    def run(*arguments):
        command = [sys.executable, str(REPOSITORY / "convert_weights.py"), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    good = run("w.pth", "out/")
    assert good.returncode == 0, good.stderr
    assert "warn" not in good.stderr.lower()
    assert 'shunted_jax.load_pretrained("out")' in good.stdout
    bad = run("missing.pth", "other/")
    assert bad.returncode == 2
    assert bad.stderr == "convert_weights.py: missing.pth does not exist\n"


def test_the_largest_variant_is_read_one_tensor_at_a_time(tmp_path):
    weights = state_dict("shunted_b")
    save({"model": to_torch_tensors(weights)}, tmp_path / "ckpt_B.pth")
    program = """
import resource, sys, convert_weights
from shunted_jax.commands import convert
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
def write(*arguments, then=convert.write_weights, **named):
    print(most() - before)
    then(*arguments, **named)
convert.write_weights = write
before = most()
assert convert_weights.main(sys.argv[1:]) == 0
print(most() - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "ckpt_B.pth"), str(tmp_path / "out")]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    # Megabytes above the imports. The parameters are 158 of them; at the end, Orbax has copies.
    assert int(lines[0]) < 300
    assert int(lines[-1]) < 750


def test_loads_without_torch_on_any_number_of_devices(tmp_path):
    weights = small_weights()
    save(to_torch_tensors(weights), tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out")
    program = """
import sys
class NotInstalled:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "safetensors"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", int(sys.argv[2]))
import numpy as np, shunted_jax
model, variables = shunted_jax.load_pretrained(sys.argv[1])
assert jax.device_count() == int(sys.argv[2])
leaves = jax.tree.leaves(variables)
assert all(type(leaf) is np.ndarray and leaf.dtype == np.float32 for leaf in leaves)
print(sum(float(np.abs(leaf).sum(dtype=np.float64)) for leaf in leaves))
"""
    total = sum(
        np.abs(t).sum(dtype=np.float64) for n, t in weights.items() if t.dtype == np.float32
    )
    for devices in (1, 4, 8):
        command = [sys.executable, "-c", program, str(tmp_path / "out"), str(devices)]
        result = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        assert float(result.stdout) == pytest.approx(total, rel=1e-12)
