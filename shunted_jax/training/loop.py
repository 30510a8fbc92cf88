"""The training loop: steps, numbers, evaluations and checkpoints, in their order."""

import contextlib
import dataclasses
import logging
import math
import time

import jax
from etils import epath

from shunted_jax.checkpoints import RunCheckpoints
from shunted_jax.data.pipeline import Batches
from shunted_jax.errors import PreemptedError, RunError, UserError
from shunted_jax.reporting.gauges import DataWait, Gauges, least_step_seconds
from shunted_jax.reporting.metrics_files import MetricsFiles
from shunted_jax.reporting.progress import Progress
from shunted_jax.resources import writing_into
from shunted_jax.storage import as_path
from shunted_jax.training.devices.distributed import is_first_process
from shunted_jax.training.devices.preemption import StopRequest
from shunted_jax.training.devices.prefetch import prefetch_to_device
from shunted_jax.training.devices.sharding import sum_over_hosts
from shunted_jax.training.evaluation import Evaluation, evaluate
from shunted_jax.training.recovery.data_files import write_list
from shunted_jax.training.recovery.lock import RunLock
from shunted_jax.training.recovery.resume import Resumed, restore_newest
from shunted_jax.training.recovery.saving import save
from shunted_jax.training.run import Run
from shunted_jax.training.step.programs import compile_steps
from shunted_jax.training.tally import Tally

logger = logging.getLogger(__name__)


def train_and_evaluate(run: Run, workdir: epath.Path) -> Evaluation:
    """Trains to the end, from the newest readable checkpoint in `workdir` if there is one.

    Args:
        run: what to train on what.
        workdir: gets `checkpoints/`, `metrics.jsonl` and `tensorboard/`; made if needed, or in a
            bucket.

    Returns:
        The evaluation after the last step.

    Raises:
        UserError: an earlier run in `workdir` had another configuration, or none of its checkpoints
            can be read.
        FloatingPointError: the loss or the gradients are no longer finite numbers.
        LockError: another run writes into `workdir`.
        RunError: the disk is full, the bucket takes no more, or the first checkpoint cannot be read
            back.
        PreemptedError: SIGTERM came; what was learned is saved.
    """
    workdir = as_path(workdir)
    with writing_into(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    config = run.config
    every = config.keep_every_epochs and config.keep_every_epochs * run.steps_per_epoch
    with (
        StopRequest(run.mesh) as stop,
        RunLock(workdir, run.mesh, stop) as lock,
        RunCheckpoints(workdir / "checkpoints", config.keep_checkpoints, every) as checkpoints,
    ):
        resumed = restore_newest(run, checkpoints, workdir)
        if resumed:
            logger.info("going on from step %d, the latest checkpoint in %s", resumed.step, workdir)
        else:
            logger.info("initialising")
            resumed = Resumed(0, run.programs.init(_keys(run)[0]))
        run = _compile(run)
        stop.check_at_once()
        try:
            write_list(run.train_source, workdir)
            due = run.evaluates_after(resumed.step) and not resumed.record.metrics
            with MetricsFiles(workdir, resumed.step, evaluated=not due) as files:
                if due:
                    logger.info("evaluating it, as it was saved without")
                    evaluation = _evaluate_late(run, resumed, files, checkpoints, lock, stop)
                elif resumed.step == run.total_steps:
                    logger.info("this run is complete: evaluating its last checkpoint")
                    evaluation = _evaluate_again(run, resumed, stop)
                if resumed.step == run.total_steps:
                    return evaluation
                return _train(run, resumed, files, checkpoints, lock, stop)
        except KeyboardInterrupt:
            checkpoints.wait()
            step = checkpoints.latest_step
            saved = "nothing is saved yet" if step is None else f"saved up to step {step}"
            logger.info("%s; go on with --workdir=%s", saved, workdir)
            raise
        except OSError as error:
            checkpoints.raise_reason(error)


def _train(
    run: Run,
    resumed: Resumed,
    files: MetricsFiles,
    checkpoints: RunCheckpoints,
    lock: RunLock,
    stop: StopRequest,
) -> Evaluation:
    config, start_step, state = run.config, resumed.step, resumed.state
    _, step_key = _keys(run)
    batches = run.task.train_batches(run.train_source, start_step)
    on_device = DataWait(prefetch_to_device(batches, run.mesh))
    least_seconds = least_step_seconds(run.model, config, list(run.mesh.devices.flat))
    gauges = Gauges(on_device, config.data, least_seconds)
    tally = Tally(config.max_bad_steps, resumed.record.tally)
    with (
        contextlib.closing(batches),
        Progress(
            start_step, run.total_steps, config.batch_size, bar=is_first_process()
        ) as progress,
    ):
        for step in range(start_step + 1, run.total_steps + 1):
            state, metrics = run.programs.train_step(state, next(on_device), step_key)
            tally.add(step, metrics)
            on_device.watch(metrics["loss"].total)

            evaluate_now = run.evaluates_after(step)
            stop_now = stop.agreed()
            save_now = config.save_every_steps and step % config.save_every_steps == 0
            if evaluate_now or step % config.log_every_steps == 0:
                means = tally.means()
                pace = progress.update(step, means.get("train/loss", math.nan))
                rate = {"train/learning_rate": float(run.schedule(step - 1))}
                files.write(step, means | rate | pace | gauges.read(pace["step_seconds"]))
            evaluation, values, problem = None, {}, None
            if evaluate_now and not stop_now:
                try:
                    evaluation = evaluate(run, state, stop.agreed)
                    stop_now = evaluation is None
                except (UserError, RunError) as error:  # of an image: what is learned is kept
                    if jax.process_count() > 1:  # the others wait within the evaluation
                        raise
                    problem = error
            if evaluate_now or save_now or stop_now:
                lock.check()
                bad_images = _bad_images(batches, run, resumed, step)
                if evaluation is not None:
                    values = evaluation.values()
                    files.write(step, values | _shown(bad_images, run))
                    progress.say(evaluation.in_a_line(step / run.steps_per_epoch))
                # First: who goes on from that checkpoint needs the records before it.
                files.publish()
                save(run, step, state, values, tally, bad_images, checkpoints)
            if problem or stop_now:
                checkpoints.wait()
                raise problem or _preempted(step)
            if evaluate_now or save_now:
                progress.resume_clock()
    return evaluation


def _evaluate_late(
    run: Run,
    resumed: Resumed,
    files: MetricsFiles,
    checkpoints: RunCheckpoints,
    lock: RunLock,
    stop: StopRequest,
) -> Evaluation:
    """Evaluates what was saved without it, and leaves all as if it had been done at its time."""
    evaluation = _evaluate_again(run, resumed, stop)
    lock.check()
    values = evaluation.values()
    files.write(resumed.step, values | _shown(resumed.record.bad_images, run))
    files.publish()
    checkpoints.add_metrics(resumed.step, values)
    logger.info(evaluation.in_a_line(resumed.step / run.steps_per_epoch))
    return evaluation


def _evaluate_again(run: Run, resumed: Resumed, stop: StopRequest) -> Evaluation:
    evaluation = evaluate(run, resumed.state, stop.agreed)
    if evaluation is None:
        raise _preempted(resumed.step)
    return evaluation


def _preempted(step: int) -> PreemptedError:
    return PreemptedError(
        f"stopped by SIGTERM after step {step}, which is saved: the same --workdir goes on from "
        "there"
    )


def _bad_images(batches: Batches, run: Run, resumed: Resumed, step: int) -> int:
    """Returns how many training images were replaced up to `step`, on all hosts together."""
    before = resumed.record.bad_images
    if run.config.data.on_bad_image == "raise":
        return before
    return before + sum_over_hosts(batches.bad_images(step - resumed.step), run.mesh)


def _shown(bad_images: int, run: Run) -> dict[str, int]:
    return {} if run.config.data.on_bad_image == "raise" else {"data/bad_images": bad_images}


def _keys(run: Run) -> jax.Array:
    """Returns two keys: one for the initial parameters, one for all steps to fold theirs from."""
    return jax.random.split(jax.random.key(run.config.seed))


def _compile(run: Run) -> Run:
    logger.info("compiling")
    start = time.perf_counter()
    programs = compile_steps(run.programs)
    logger.info("compiled in %.0f s", time.perf_counter() - start)
    return dataclasses.replace(run, programs=programs)
