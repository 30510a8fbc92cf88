"""Checkpoints that were written in format 1: loaded, started from, gone on from, scored, exported.

`version_1/` holds a run's checkpoint, of step 8 of 12, and a converted one, with their shared
network's logits (`expected.json`) and what that run recorded of steps 9 to 12.
"""

import json
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file

import convert_weights
import shunted_jax
from shunted_jax.checkpoints import read_weights
from shunted_jax.config import resolve
from shunted_jax.models import registry
from shunted_jax.reporting.metrics_files import read_metrics
from shunted_jax.training.loop import train_and_evaluate
from shunted_jax.training.run import make_run
from shunted_jax.training.scoring import score_checkpoint
from tests.support.quick import quick_jit
from tests.support.tiny import ONE_STAGE, tiny_config

VERSION_1 = Path(__file__).parent / "version_1"
EXPECTED = json.loads((VERSION_1 / "expected.json").read_text())
IMAGES = np.linspace(-1, 1, 32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3)


@pytest.fixture
def folder(tmp_path):
    """Returns where `converted` and `run` lie, free to be written into."""
    for name in ("converted", "run"):
        with tarfile.open(VERSION_1 / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def make_config(digits_dir, monkeypatch):
    """Returns a function that makes the run's configuration, changed at will."""
    row = ONE_STAGE | {"embed_dims": (4,), "mlp_ratios": (1,)}
    monkeypatch.setitem(registry.VARIANTS, "tiniest", row)

    def make(**changes):
        return resolve(
            tiny_config(
                digits_dir,
                model={"name": "tiniest"},
                optimizer={"learning_rate": 3e-2},
                **{"ema_decay": 0.5, "keep_checkpoints": 3} | changes,
            )
        )

    return make


def test_load_and_export(folder, capsys):
    apply = None
    for name, path, ema in (
        ("converted", "converted", False),
        ("run", "run", False),
        ("run_ema", "run", True),
    ):
        model, variables = shunted_jax.load_pretrained(folder / path, ema=ema)
        apply = apply or quick_jit(model.apply)  # it is the same network each time
        np.testing.assert_allclose(apply(variables, IMAGES)[0], EXPECTED[name], atol=1e-5)
        assert model.dtype == jnp.float32
        assert model.drop_path_rate == 0  # the run had 0.1, which is how and not what

        out = str(folder / f"{name}.safetensors")
        flags = ["--ema"] * ema
        assert convert_weights.main(["--to-torch", *flags, str(folder / path), out]) == 0
        assert ("their moving average" in capsys.readouterr().out) == ema
        again, same = shunted_jax.from_torch(load_file(out), num_heads=(2,))
        assert again == model
        jax.tree.map(np.testing.assert_array_equal, same, variables)
    counters = [value for key, value in load_file(out).items() if key.endswith("_tracked")]
    assert counters == [0] * len(counters)

    assert read_weights(folder / "run").best_by == "eval/top1"
    assert (
        convert_weights.main(["--to-torch", str(folder / "run"), str(folder / "r.safetensors")])
        == 0
    )
    assert "step        8, the best by eval/top1" in capsys.readouterr().out
    assert convert_weights.main(["--ema", "--to-torch", str(folder / "converted"), out + "2"]) == 2
    assert "converted has no moving average of its parameters" in capsys.readouterr().err


def test_run_goes_on_as_the_program_that_wrote_it_did(folder, make_config):
    run = make_run(make_config())
    train_and_evaluate(run, epath.Path(folder / "run"))
    records = read_metrics(folder / "run" / "metrics.jsonl")
    later = [record for record in records if record["step"] > 8]
    assert len(later) == len(EXPECTED["records"]) == 3
    for record, expected in zip(later, EXPECTED["records"], strict=True):
        for name in expected.keys() - {"step_seconds"}:
            assert record[name] == pytest.approx(expected[name], rel=1e-4), name
    # From here on it is ranked by the average, what was saved before too.
    weights = read_weights(folder / "run")
    assert weights.step == 12
    assert weights.best_by == "eval_ema/top1"
    assert weights.meta.run.config["ema_decay"] == 0.5
    assert "depthwise_form" not in weights.meta.model


def test_scored_and_started_from(folder, make_config):
    score = score_checkpoint(make_config(), str(folder / "run"))
    before = read_metrics(folder / "run" / "metrics.jsonl")[-1]
    assert before["step"] == score.about["step"] == 8
    values = score.values()
    assert values["top1"] == before["eval/top1"]
    assert values["ema_loss"] == pytest.approx(before["eval_ema/loss"], rel=1e-4)
    for path in ("converted", "run"):
        run = make_run(make_config(init_from=str(folder / path)))
        state = run.programs.init(jax.random.key(0))
        saved = read_weights(folder / path)
        jax.tree.map(np.testing.assert_array_equal, state.params, saved.params)
        jax.tree.map(np.testing.assert_array_equal, state.batch_stats, saved.batch_stats)
