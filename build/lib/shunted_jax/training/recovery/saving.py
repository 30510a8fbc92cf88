"""What is saved of a run besides its state, and what keeps a state from being saved."""

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.training.recovery.digest import digest
from shunted_jax.training.recovery.provenance import describe
from shunted_jax.training.run import Run
from shunted_jax.training.step.state import TrainState
from shunted_jax.training.tally import Tally


def save(
    run: Run,
    step: int,
    state: TrainState,
    values: dict[str, float],
    tally: Tally,
    bad_images: int,
    checkpoints: RunCheckpoints,
) -> None:
    """Starts saving, unless something in the state is not finite: that would be resumed from.

    Args:
        run: what is trained on what.
        step: the number of updates made.
        state: after `step`.
        values: of an evaluation; empty where there was none.
        tally: of the steps since the last record.
        bad_images: how many were replaced up to here.
        checkpoints: of the run.

    Raises:
        FloatingPointError: something is not finite.
        RunError: there is no room for it.
    """
    since_log = tally.to_json()
    found = digest(state)
    if found.not_finite:
        raise FloatingPointError(
            f"{found.not_finite[0]} and {len(found.not_finite) - 1} more arrays are not finite "
            f"after step {step}, which is not saved; take a lower config.optimizer.learning_rate, "
            "or a config.optimizer.clip_norm"
        )
    about = describe(
        run, step, metrics=values, digest=found.sums, tally=since_log, bad_images=bad_images
    )
    checkpoints.save(state, about)
