"""The training loop: steps, numbers, evaluations and checkpoints, in their order."""

import contextlib
import dataclasses
import logging
import math
import time
from pathlib import Path

import jax

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.config import differences
from shunted_jax.data.pipeline import Batches, train_batches
from shunted_jax.errors import UserError
from shunted_jax.reporting.gauges import DataWait, Gauges
from shunted_jax.reporting.metrics_files import MetricsFiles
from shunted_jax.reporting.progress import Progress
from shunted_jax.training.evaluation import Evaluation, evaluate
from shunted_jax.training.prefetch import prefetch_to_device
from shunted_jax.training.programs import compile_steps
from shunted_jax.training.run import Run
from shunted_jax.training.sharding import sum_over_hosts
from shunted_jax.training.state import TrainState
from shunted_jax.training.steps import Metrics

logger = logging.getLogger(__name__)


def train_and_evaluate(run: Run, workdir: Path) -> Evaluation:
    """Trains to the end, from the latest checkpoint in `workdir` if there is one.

    Args:
        run: what to train on what.
        workdir: gets `checkpoints/`, `metrics.jsonl` and `tensorboard/`; made if needed.

    Returns:
        The evaluation after the last step.

    Raises:
        UserError: an earlier run in `workdir` had another configuration.
        FloatingPointError: the loss is no longer a finite number.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with RunCheckpoints(workdir / "checkpoints", run.config.keep_checkpoints) as checkpoints:
        start_step = checkpoints.latest_step or 0
        if start_step:
            _check_same_run(run, checkpoints, start_step, workdir)
            logger.info("going on from step %d, the latest checkpoint in %s", start_step, workdir)
            state = checkpoints.restore(start_step, run.programs.abstract_state)
        else:
            logger.info("initialising")
            state = run.programs.init(_keys(run)[0])
        run = _compile(run)
        with MetricsFiles(workdir, start_step) as files:
            if start_step == run.total_steps:
                logger.info("this run is complete: evaluating its last checkpoint")
                return evaluate(run, state)
            try:
                return _train(run, state, start_step, files, checkpoints)
            except KeyboardInterrupt:
                step = checkpoints.latest_step or 0
                logger.info("saved up to step %d; go on with --workdir=%s", step, workdir)
                raise


def _train(
    run: Run,
    state: TrainState,
    start_step: int,
    files: MetricsFiles,
    checkpoints: RunCheckpoints,
) -> Evaluation:
    config = run.config
    _, step_key = _keys(run)
    batches = train_batches(
        run.train_source,
        run.train_transform,
        batch_size=config.batch_size,
        seed=config.seed,
        repeats=config.augment.repeats,
        on_bad_image=config.data.on_bad_image,
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=config.data.num_workers,
        num_threads=config.data.num_threads,
    )
    on_device = DataWait(prefetch_to_device(batches, run.mesh))
    gauges = Gauges(run, on_device)
    since_log: list[Metrics] = []
    with (
        contextlib.closing(batches),
        Progress(start_step, run.total_steps, config.batch_size) as progress,
    ):
        for step in range(start_step + 1, run.total_steps + 1):
            state, metrics = run.programs.train_step(state, next(on_device), step_key)
            since_log.append(metrics)
            on_device.watch(metrics["loss"].total)
            # Never more than two steps ahead of the devices, whose memory holds the batches.
            jax.block_until_ready(since_log[-3:-2])

            evaluate_now = step % run.eval_every_steps == 0 or step == run.total_steps
            if evaluate_now or step % config.log_every_steps == 0:
                means = _means(since_log, step)
                since_log.clear()
                pace = progress.update(step, means["train/loss"])
                rate = {"train/learning_rate": float(run.schedule(step - 1))}
                files.write(step, means | rate | pace | gauges.read(pace["step_seconds"]))
            if evaluate_now:
                evaluation = evaluate(run, state)
                values = evaluation.values()
                files.write(step, values | _bad_images(batches, run))
                checkpoints.save(step, state, values, run.metadata())
                progress.say(
                    f"epoch {step / run.steps_per_epoch:.1f}: test top-1 "
                    f"{evaluation.top1_text()}, loss {values['eval/loss']:.4f}"
                )
                progress.resume_clock()
    return evaluation


def _bad_images(batches: Batches, run: Run) -> dict[str, int]:
    """Returns how many training images were replaced since the start, on all hosts together."""
    if run.config.data.on_bad_image == "raise":
        return {}
    return {"data/bad_images": sum_over_hosts(batches.bad_images, run.mesh)}


def _keys(run: Run) -> jax.Array:
    """Returns two keys: one for the initial parameters, one for all steps to fold theirs from."""
    return jax.random.split(jax.random.key(run.config.seed))


def _compile(run: Run) -> Run:
    logger.info("compiling")
    start = time.perf_counter()
    programs = compile_steps(run.programs, run.config, run.mesh)
    logger.info("compiled in %.0f s", time.perf_counter() - start)
    return dataclasses.replace(run, programs=programs)


def _means(metrics: list[Metrics], step: int) -> dict[str, float]:
    """Returns the means over some steps, of which `step` is the last; all must be finite."""
    on_host = jax.device_get(metrics)
    totals = on_host[0]
    for at_step in on_host[1:]:
        totals = {name: totals[name] + mean for name, mean in at_step.items()}
    means = {f"train/{name}": mean.value for name, mean in totals.items()}
    for at, at_step in enumerate(on_host, start=step - len(on_host) + 1):
        for name in ("loss", "grad_norm"):
            if not math.isfinite(at_step[name].total):
                raise FloatingPointError(
                    f"the {name} is {at_step[name].value} at step {at}: nothing was saved since "
                    "the last checkpoint before it; take a lower config.optimizer.learning_rate, "
                    "or a config.optimizer.clip_norm"
                )
    return means


def _check_same_run(run: Run, checkpoints: RunCheckpoints, step: int, workdir: Path) -> None:
    before, now = checkpoints.restore_meta(step)["config"], run.metadata()["config"]
    if changed := differences(before, now):
        raise UserError(
            f"{workdir} holds a run with another configuration; name another --workdir, or go on "
            "with the one it has:\n  " + "\n  ".join(changed)
        )
