"""Matplotlib: its figures, imported and drawn whatever the environment and its settings say.

A notebook names its own backend in MPLBACKEND. Its child processes inherit that, and matplotlib
cannot be imported where that backend is not installed. Figures that are only saved need none.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator

_named = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
    from matplotlib.figure import Figure
finally:
    if _named is not None:
        os.environ["MPLBACKEND"] = _named
if _named:
    with contextlib.suppress(ValueError):  # as matplotlib itself does, where there is such a one
        matplotlib.rcParams["backend"] = _named

# Text is text, and no formula: `$`, `^`, `_` and `\` are in people's names.
_PLAIN = {
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}


@contextlib.contextmanager
def plain_text() -> Iterator[None]:
    """Takes text as it is in figures that are made and saved inside, and says nothing of fonts.

    Matplotlib's settings are changed for this process until the end, and so is what is logged and
    warned of.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with matplotlib.rc_context(_PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of characters that no font has, of crowded layouts
            yield
    finally:
        logger.setLevel(level)


def png_of(figure: Figure) -> bytes:
    """Returns a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
