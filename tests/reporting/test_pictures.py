"""Pictures: what people call their classes is drawn as it is, and nothing is drawn by halves."""

import io
import logging
import os
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from shunted_jax.reporting import pictures
from shunted_jax.reporting.pictures import plot_contact_sheet, plot_curves, plot_predictions

NAMES = {
    "coin_$": "coin_$",
    "$\\frac{$": "$\\frac{$",  # no formula
    "a^2 & 50 %": "a^2 & 50 %",
    os.fsdecode(b"caf\xe9"): "caf\\xe9",
    "two\nlines": "two\\nlines",
    "日本語": "日本語",  # which the font lacks
    "שלום": "שלום",
    "norwegian_" * 20: "norwegian_…orwegian_",
}
IMAGE = np.full((8, 8, 3), 90, np.uint8)
LABELS = np.arange(len(NAMES))


@pytest.fixture
def drawn(monkeypatch, tmp_path, caplog):
    """Returns a function that draws, and gives the texts in the picture; nothing may be said."""
    figures = []
    png_of = pictures.png_of
    monkeypatch.setattr(pictures, "png_of", lambda figure: figures.append(figure) or png_of(figure))
    path = tmp_path / "picture.png"

    def draw(plot, *arguments, **named):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plot(*arguments, path=path, **named)
        assert not caplog.records
        assert Image.open(io.BytesIO(path.read_bytes())).size[0] > 500
        return {text.get_text() for text in figures[-1].findobj(Text)}

    caplog.set_level(logging.DEBUG, "matplotlib")
    settings = dict(matplotlib.rcParams)
    yield draw
    assert dict(matplotlib.rcParams) == settings


def test_predictions_have_the_names_as_they_are(drawn):
    right = drawn(plot_predictions, lambda _: IMAGE, LABELS, LABELS, list(NAMES))
    assert right >= set(NAMES.values())
    others = np.roll(LABELS, 1)
    wrong = drawn(plot_predictions, lambda _: IMAGE, LABELS, others, list(NAMES))
    shown = list(NAMES.values())
    assert wrong >= {f"{shown[other]}, is {shown[label]}" for label, other in enumerate(others)}


def test_contact_sheets_have_the_names_as_they_are(drawn):
    captions = [[f"0.7 {name}"[:20], name] for name in NAMES]
    texts = drawn(
        plot_contact_sheet, [IMAGE] * len(NAMES), captions, title="of $HOME/a_b$", columns=8
    )
    assert "of $HOME/a_b$" in texts
    assert texts >= {f"0.7 {name}\n{name}" for name in ("coin_$", "שלום")}
    assert "0.7 two\\nlines\ntwo\\nlines" in texts


def test_curves_have_a_title_whose_ends_are_kept(drawn):
    records = [{"step": step, "train/learning_rate": 1e-6 * step} for step in (1, 2)]
    title = f"tiny on /data/{os.fsdecode(bytes([0xE9]))}_$/{'deep/' * 100}x: top-1 99.17 %"
    texts = drawn(plot_curves, records, {"top1": "top-1"}, title=title)
    (shown,) = [text for text in texts if text.startswith("tiny on /data/\\xe9_$/deep/")]
    assert shown.endswith("/deep/x: top-1 99.17 %")
    assert len(shown) == 100


def test_peoples_settings_bring_no_tex_in(drawn):
    with matplotlib.rc_context({"text.usetex": True}):
        assert drawn(plot_curves, [], {}, title="a $ sign") >= {"a $ sign"}


def test_what_cannot_be_drawn_leaves_what_was_there(tmp_path):
    path = tmp_path / "predictions.png"
    path.write_bytes(b"of before")

    def broken(_):
        raise ValueError("no such image")

    with pytest.raises(ValueError, match="no such image"):
        plot_predictions(broken, LABELS, LABELS, list(NAMES), path)
    assert path.read_bytes() == b"of before"
