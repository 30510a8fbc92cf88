"""What stays the same throughout a run: task, data, model, mesh, schedule, programs."""

import dataclasses

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from shunted_jax.config import Config
from shunted_jax.data.sources import Source, open_source
from shunted_jax.errors import UserError
from shunted_jax.tasks import Task, make_task
from shunted_jax.training.devices.sharding import make_mesh
from shunted_jax.training.fine_tuning import initialize_from
from shunted_jax.training.step.optimizer import learning_rate_schedule, make_optimizer
from shunted_jax.training.step.programs import Programs, make_programs


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, ready to start. Attributes are as their names in `config` and their types say.

    Attributes:
        steps_per_epoch: a batch may hold the end of one epoch and the start of the next, so this
            need not be whole.
        total_steps: where the run and its schedule end.
        eval_every_steps: how often to evaluate and save.
    """

    config: Config
    task: Task
    train_source: Source
    eval_source: Source
    model: nn.Module
    mesh: Mesh
    schedule: optax.Schedule
    programs: Programs
    steps_per_epoch: float
    total_steps: int
    eval_every_steps: int

    @property
    def num_parameters(self) -> int:
        """How many parameters the network has, frozen ones included."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.programs.abstract_state.params))

    def evaluates_after(self, step: int) -> bool:
        """Returns whether the run evaluates what it has learned up to `step`."""
        return step > 0 and (step % self.eval_every_steps == 0 or step == self.total_steps)

    def describe(self) -> str:
        """Returns what a person wants to know before the first step, a line each."""
        config, processes, devices = self.config, jax.process_count(), self.mesh.size
        kind = self.mesh.devices.flat[0].device_kind
        mesh = ", ".join(f"{name}={size}" for name, size in self.mesh.shape.items())
        side, batch = config.data.image_size, config.batch_size
        of_processes = f" of {processes} processes" if processes > 1 else ""
        lines = {
            "model": f"{config.model.name}, {self.num_parameters:,} parameters, "
            f"{self.model.num_classes} classes, {side} x {side} pixels",
            "data": f"{config.data.dataset}, {len(self.train_source):,} images to train on, "
            f"{len(self.eval_source):,} to test",
            "devices": f"{devices} ({kind}){of_processes}, mesh {mesh}",
            "batch": f"{batch} global, {batch // processes} a process, {batch // devices} a device",
            "steps": f"{self.total_steps:,} ({config.epochs:g} epochs)",
        }
        return "\n".join(f"  {name:<9} {text}" for name, text in lines.items())


def make_run(config: Config) -> Run:
    """Builds what `config` describes; nothing is trained, compiled or written yet.

    Args:
        config: as `config.resolve` returns it.

    Raises:
        UserError: there is no such network, the data set is not there, its splits differ in their
            classes, or the mesh or the batch sizes do not fit the devices.
    """
    # What is wrong with the network shows at once: a data set may take minutes to open.
    make_task(config, num_classes=0).make_model()
    train_source = open_source(config.data.dataset, config.data.train_split, config.data.data_dir)
    eval_source = open_source(config.data.dataset, config.data.eval_split, config.data.data_dir)
    _check_same_classes(train_source, eval_source)
    mesh = make_mesh(config.mesh)
    _check_batch_sizes(config, mesh)
    steps_per_epoch = len(train_source) / config.batch_size
    total_steps = max(1, round(config.epochs * steps_per_epoch))
    schedule = learning_rate_schedule(
        config.optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch
    )
    task = make_task(config, num_classes=len(train_source.class_names))
    model = task.make_model()
    programs = make_programs(model, make_optimizer(config.optimizer, schedule), task, mesh)
    if config.init_from is not None:
        init = initialize_from(config.init_from, model, programs.init)
        programs = dataclasses.replace(programs, init=init)
    return Run(
        config=config,
        task=task,
        train_source=train_source,
        eval_source=eval_source,
        model=model,
        mesh=mesh,
        schedule=schedule,
        programs=programs,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        eval_every_steps=max(1, round(config.eval_every_epochs * steps_per_epoch)),
    )


def _check_same_classes(train_source: Source, eval_source: Source) -> None:
    names, eval_names = train_source.class_names, eval_source.class_names
    if names != eval_names:
        strangers = sorted(set(names) ^ set(eval_names)) or ["their order"]
        raise UserError(
            f"{train_source.name} has {len(names)} classes and {eval_source.name} "
            f"{len(eval_names)}, which differ in {', '.join(strangers[:5])}: take splits of one "
            "data set"
        )


def _check_batch_sizes(config: Config, mesh: Mesh) -> None:
    check_batch_size("batch_size", config.batch_size, mesh)
    check_batch_size("eval_batch_size", config.eval_batch_size, mesh)
    parts = config.accumulate_steps
    if config.batch_size % (parts * mesh.size):
        raise UserError(
            f"config.batch_size={config.batch_size} in {parts} parts (config.accumulate_steps) "
            f"cannot be shared evenly by {mesh.size} devices: take a multiple of "
            f"{parts * mesh.size}"
        )


def check_batch_size(name: str, size: int, mesh: Mesh) -> None:
    """Raises UserError unless all devices get as many of `config.NAME`'s rows."""
    if size % mesh.size:
        raise UserError(
            f"config.{name}={size} cannot be shared evenly by {mesh.size} devices: take a "
            f"multiple of {mesh.size}"
        )
