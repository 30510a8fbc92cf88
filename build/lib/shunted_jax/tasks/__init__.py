"""What a network is trained for. The training loop is given one such object, and knows no other."""

from shunted_jax.config import Config
from shunted_jax.tasks.classification import Classification
from shunted_jax.tasks.task import Scores, Task

__all__ = ["Scores", "Task", "make_task"]


def make_task(config: Config, num_classes: int) -> Task:
    """Returns the task of a run.

    Args:
        config: of the run.
        num_classes: how many classes the data set has.
    """
    return Classification(config, num_classes)
