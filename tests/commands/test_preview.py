"""The contact sheet shows what the network is trained on, with the weights of its labels."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shunted_jax.commands import preview
from shunted_jax.config import AugmentConfig, Config, DataConfig
from shunted_jax.data.pipeline import train_batches
from shunted_jax.data.sources import open_source
from tests.data.images import write_tree

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    return write_tree(folder, {"train": {"cat": 9, "dog": 9}})


@pytest.fixture
def shown(tree, monkeypatch):
    """Returns a function that gives the images and captions of a preview."""

    def capture(rows=2, **augment):
        config = Config(
            data=DataConfig(dataset=tree, image_size=40), augment=AugmentConfig(**augment)
        )
        seen = []
        monkeypatch.setattr(
            preview, "plot_contact_sheet", lambda *drawn, columns: seen.extend(drawn)
        )
        preview.write_preview(config, Path("nowhere.png"), rows)
        return config, seen[0], seen[1]

    return capture


def test_without_mixing_the_hosts_images_are_shown_as_they_are(shown, tree):
    config, images, captions = shown()
    source = open_source(tree, "train")
    config.batch_size = 16
    batches = train_batches(source, config)
    expected = next(batches)
    batches.close()
    np.testing.assert_array_equal(np.stack(images), expected["image"])
    assert captions == [[source.class_names[label]] for label in expected["label"]]


def test_captions_have_both_labels_and_weights_that_add_up(shown):
    _, images, captions = shown(rows=3, mixup_alpha=0.8, cutmix_alpha=1.0)
    assert len(images) == len(captions) == 24
    for row in range(3):
        of_row = captions[8 * row : 8 * row + 8]
        parsed = [
            re.fullmatch(r"(\d\.\d\d) (\w+)\n(\d\.\d\d) (\w+)", "\n".join(lines))
            for lines in of_row
        ]
        assert all(abs(float(match[1]) + float(match[3]) - 1) < 0.011 for match in parsed)
        assert len({match[1] for match in parsed}) == 1  # one weight a batch
        assert [match[2] for match in parsed] == [match[4] for match in reversed(parsed)]


def test_the_command_writes_a_picture(tree, tmp_path):
    command = [
        sys.executable,
        "-m",
        "shunted_jax.commands.preview",
        "--config=configs/shunted_t.py",
    ]
    flags = [f"--config.data.dataset={tree}", "--config.data.image_size=32", "--rows=1"]

    def run(*more):
        arguments = [*command, *flags, *more]
        return subprocess.run(
            arguments, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )

    picture = tmp_path / "sheet.png"
    done = run(f"--out={picture}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    for flag, said in [
        ("--rows=0", "preview.py: --rows=0: give at least one\n"),
        (f"--out={tmp_path}", f"preview.py: --out={tmp_path} is a folder: name a file in it\n"),
    ]:
        refused = run(flag)
        assert (refused.returncode, refused.stderr) == (2, said)
