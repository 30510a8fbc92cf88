"""Pictures of a run: its curves, and what the network made of some test images."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath
from matplotlib.figure import Figure

_BLUE, _ORANGE, _RED, _GREY = "#1f5fa8", "#d9730d", "#c62828", "#9aa5b1"
_SCORE_COLORS = (_BLUE, _ORANGE, _RED)
_COLUMNS, _MOST_IMAGES = 8, 32


def plot_curves(
    records: Sequence[dict[str, float]], scores: Mapping[str, str], path: epath.Path, title: str
) -> None:
    """Draws loss, scores and learning rate over steps.

    Args:
        records: as `read_metrics` gives them.
        scores: for each metric that is a share of 1, what to call it.
        path: of the PNG to write.
        title: over the picture.
    """
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    figure.suptitle(title)
    loss_axes, score_axes, rate_axes = figure.subplots(1, 3)
    _draw(loss_axes, records, "train/loss", "training, as optimized", _GREY)
    _draw(loss_axes, records, "eval/loss", "test", _BLUE, marker="o")
    loss_axes.set(title="loss", xlabel="step", ylabel="nats")
    for (metric, name), color in zip(scores.items(), _SCORE_COLORS, strict=False):
        _draw(score_axes, records, f"train/{metric}", f"training, {name}", _GREY, scale=100)
        _draw(score_axes, records, f"eval/{metric}", f"test, {name}", color, marker="o", scale=100)
    score_axes.set(title="score", xlabel="step", ylabel="%", ylim=(0, 102))
    _draw(rate_axes, records, "train/learning_rate", "learning rate", _BLUE)
    rate_axes.set(title="learning rate", xlabel="step", ylim=(0, None))
    rate_axes.ticklabel_format(axis="y", scilimits=(-2, 2))
    for axes in (loss_axes, score_axes, rate_axes):
        axes.grid(color="#e4e7eb")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
    _save(figure, path)


def _draw(axes, records, name, label, color, *, marker=None, scale=1):
    points = [(record["step"], scale * record[name]) for record in records if name in record]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, color=color, marker=marker, markersize=4)


def plot_contact_sheet(
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    path: epath.Path,
    title: str,
    columns: int,
) -> None:
    """Draws images in rows, each over its caption.

    Args:
        images: uint8 [height, width, 3] each.
        captions: one an image, of one or two lines.
        path: of the PNG to write.
        title: over the picture.
        columns: how many images a row has.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.7 * columns, 2.1 * rows + 0.4), layout="constrained")
    figure.suptitle(title)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image)
        shortened = [_shorten(line) for line in caption.split("\n")]
        axes.set_xlabel("\n".join(shortened), fontsize=8)
    _save(figure, path)


def _shorten(text: str, most: int = 20) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def plot_predictions(
    image_of: Callable[[int], np.ndarray],
    labels: np.ndarray,
    predictions: np.ndarray,
    class_names: Sequence[str],
    path: epath.Path,
) -> None:
    """Draws some images with what was predicted, those that were wrong first and in red.

    Args:
        image_of: returns example i as uint8 [height, width, 3].
        labels: int [n].
        predictions: int [n].
        class_names: what each label stands for.
        path: of the PNG to write.
    """
    wrong_first = np.argsort(labels == predictions, kind="stable")[:_MOST_IMAGES]
    rows = -(-len(wrong_first) // _COLUMNS)
    figure = Figure(figsize=(1.25 * _COLUMNS, 1.45 * rows + 0.5), layout="constrained")
    wrong = int(np.sum(labels != predictions))
    title = f"{len(labels) - wrong:,} of {len(labels):,} test images right"
    figure.suptitle(f"{title}; in red, what was not" if wrong else title)
    for axes in figure.subplots(rows, _COLUMNS, squeeze=False).flat:
        axes.axis("off")
    for axes, index in zip(figure.axes, wrong_first, strict=False):
        predicted, real = class_names[predictions[index]], class_names[labels[index]]
        right = predicted == real
        axes.imshow(image_of(int(index)))
        axes.set_title(
            predicted if right else f"{predicted}, is {real}",
            color="black" if right else _RED,
            fontsize=10,
        )
    _save(figure, path)


def _save(figure: Figure, path: epath.Path) -> None:
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=120)
