"""What the training loop, the evaluation and the reports ask of a task.

Three things pass through a task's hands. On the host, a source becomes batches of numpy arrays. On
the devices, a batch becomes a loss, or what the score is summed from. At the end, the scores become
words and pictures. All else is the same for every task: steps, mesh, checkpoints, resuming.
`classification.py` is the one to read first.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
from etils import epath
from flax import linen as nn

from shunted_jax.config import Config
from shunted_jax.data.pipeline import Batches
from shunted_jax.data.sources import Source
from shunted_jax.tasks.metrics import Metrics

Batch = dict[str, jax.Array]


class Scores(Protocol):
    """What one set of parameters is worth, over the whole evaluation split."""

    @property
    def examples(self) -> int:
        """How many images counted."""

    def values(self) -> dict[str, float]:
        """Returns numbers by name, `loss` among them; `metrics.jsonl` has them behind `eval/`."""

    def texts(self) -> dict[str, str]:
        """Returns what to tell a person of each score, by its name; first the one that counts."""

    def per_class(self, class_names: Sequence[str]) -> list[tuple]:
        """Returns the rows of `per_class.csv`, the first of them the columns' names."""


class Task(Protocol):
    """What a network is trained for; made once for a run.

    Attributes:
        config: of the run.
        best_metric: of two checkpoints, the one with the higher score of this name is the better;
            one of the names of `Scores.values`.
        curves: for each score that `curves.png` shows, what to call it. They are shares of 1, and
            shown in percent.
    """

    config: Config
    best_metric: str
    curves: Mapping[str, str]

    def make_model(self) -> nn.Module:
        """Returns the network; raises `UserError` where `config.model` describes none.

        It has the fields `dtype` and `precision` of Flax's own layers, which evaluation sets.
        """

    # On the host.

    def train_batches(self, source: Source, start_step: int) -> Batches:
        """Returns this host's share of the batches from `start_step` on, without end."""

    def eval_batches(self, source: Source) -> Batches:
        """Returns this host's share of every example once."""

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes and dtypes of a global batch to train on."""

    def abstract_eval_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes and dtypes of a global batch to evaluate on."""

    # On the devices: pure functions of arrays, which are traced.

    def prepare(self, key: jax.Array, batch: Batch) -> tuple[jax.Array, Any]:
        """Returns what the network is trained on.

        Args:
            key: decides everything random.
            batch: as `abstract_batch` says.

        Returns:
            The images, float32 [batch, height, width, channels], and the targets: a tree of arrays
            [batch, ...].
        """

    def loss(self, outputs: Any, targets: Any) -> tuple[jax.Array, Metrics]:
        """Returns the mean loss, float32 [], and metrics to log; `loss` is among them.

        Args:
            outputs: of the network on prepared images.
            targets: as `prepare` returns them.
        """

    def score(self, apply: Callable[[jax.Array], Any], batch: Batch) -> Any:
        """Returns what `sum_up` needs of a batch: a tree of arrays, the same on every device.

        Args:
            apply: images -> outputs, the network in float32; call it as often as needed.
            batch: as `abstract_eval_batch` says.
        """

    # On the host again.

    def sum_up(self, outputs: Sequence[Any]) -> Scores:
        """Returns the scores of a whole split, of what `score` returned for each of its batches."""

    def plot_predictions(self, scores: Scores, source: Source, path: epath.Path) -> None:
        """Writes a PNG of some test images with what the network made of them."""
