"""Commands that are told to use devices that are not there."""

import re
from pathlib import Path

import jax
import pytest

from shunted_jax.errors import UserError
from shunted_jax.platforms import check_platforms
from tests.support.command_lines import run_each

REPOSITORY = Path(__file__).parents[2]
COMMANDS = {
    "train.py": [str(REPOSITORY / "train.py"), "--workdir=x"],
    "convert_weights.py": [str(REPOSITORY / "convert_weights.py"), "x.safetensors", "out"],
    "preview.py": [
        "shunted_jax.commands.preview",
        f"--config={REPOSITORY / 'configs' / 'digits.py'}",
    ],
}


def test_devices_that_are_not_there_are_a_sentence(tmp_path):
    ends = run_each(
        tmp_path, list(COMMANDS.values()), JAX_PLATFORMS="cuda", CUDA_VISIBLE_DEVICES=""
    )
    for name, end in zip(COMMANDS, ends, strict=True):
        assert end.status == 2, end.errors
        assert re.search(
            rf"^{name}: JAX_PLATFORMS=cuda, and JAX has no such devices here( \(.*\))?: there is "
            r"(cpu|tpu and cpu)\. Leave the variable out, name another, or install JAX for these",
            end.errors,
            re.M,
        ), end.errors
        assert "Traceback" not in end.errors
        assert not list(end.folder.iterdir())


def test_the_reason_is_told_where_jax_gives_one(monkeypatch):
    def refuse():
        raise RuntimeError("Unable to initialize backend 'tpu': no libtpu.so\nmore")

    monkeypatch.setattr(jax, "devices", refuse)
    before = jax.config.jax_platforms
    with pytest.raises(UserError, match=r"here \(RuntimeError: Unable .* no libtpu.so\): there is"):
        check_platforms()
    assert jax.config.jax_platforms == before
