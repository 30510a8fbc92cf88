"""The programs that are compiled: a run's steps, and single blocks, for given devices."""

import dataclasses
import importlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from shunted_jax.config import Config
from shunted_jax.models import ShuntedTransformer
from shunted_jax.tasks import make_task
from shunted_jax.training.devices.sharding import batch_sharding, make_mesh, replicated
from shunted_jax.training.step import programs
from shunted_jax.training.step.optimizer import make_optimizer

BLOCKS = ("block1", "block2", "block3", "block4")
PARTS = ("train", "evaluate", "inference", *BLOCKS)
_CLASSES = 1000


def lower(
    variant: str,
    part: str,
    devices: Sequence[jax.Device],
    *,
    batch_per_device: int,
    dtype: str,
    compute: str,
    augment: bool,
) -> jax.stages.Lowered:
    """Returns a program ready to be compiled.

    Args:
        variant: of the network, by name.
        part: "train" and "evaluate" are a run's steps, the latter in float32; "inference" is the
            network alone; "block1" to "block4" are a block of that stage, forward and backward.
        devices: to compile for.
        batch_per_device: images on each device.
        dtype: to compute in: "bfloat16".
        compute: as the network takes it: "reference" for plain JAX, "pallas" for the TPU kernels.
        augment: train with the recipe's mixing, erasing and drop path; without, a step is the
            network, its gradients and AdamW alone.
    """
    config = importlib.import_module(f"configs.{variant}").get_config()
    config.batch_size = config.eval_batch_size = batch_per_device * len(devices)
    config.model.dtype = dtype
    config.model.compute = compute
    if not augment:
        config.model.drop_path_rate = 0.0
        config.augment = dataclasses.replace(
            config.augment, erase_prob=0.0, mixup_alpha=0.0, cutmix_alpha=0.0
        )
    task = make_task(config, _CLASSES)
    model = task.make_model()
    mesh = make_mesh(config.mesh, devices)
    if part in BLOCKS:
        return _lower_block(model, BLOCKS.index(part), config, mesh)
    of_run = programs.make_programs(model, make_optimizer(config.optimizer, 1e-3), task, mesh)
    if part == "train":
        return programs.lower_train_step(of_run)
    if part == "evaluate":
        return programs.lower_eval_step(of_run)
    return _lower_inference(model, of_run, config, mesh)


def _lower_inference(
    model: ShuntedTransformer, of_run: programs.Programs, config: Config, mesh: Mesh
) -> jax.stages.Lowered:
    state, images = of_run.abstract_state, batch_sharding(mesh)
    infer = jax.jit(
        programs.traced_under(mesh, model.apply),
        in_shardings=(jax.tree.map(lambda leaf: leaf.sharding, state.variables), images),
        out_shardings=images,
    )
    side = config.data.image_size
    shape = (config.eval_batch_size, side, side, model.in_channels)
    return infer.lower(state.variables, jax.ShapeDtypeStruct(shape, model.dtype, sharding=images))


def _lower_block(
    model: ShuntedTransformer, stage: int, config: Config, mesh: Mesh
) -> jax.stages.Lowered:
    """Returns a block's output and the gradients for a given one of its output."""
    block = model.block(stage)(name="block")
    side = config.data.image_size // model.strides[stage]
    shape = (config.batch_size, side, side, model.embed_dims[stage])
    maps, everywhere = batch_sharding(mesh), replicated(mesh)
    x = jax.ShapeDtypeStruct(shape, model.dtype, sharding=maps)
    params = jax.eval_shape(block.init, jax.random.key(0), jnp.zeros((1, *shape[1:])))

    def both_ways(params, x, dout):
        out, pullback = jax.vjp(lambda params, x: block.apply(params, x, train=True), params, x)
        return out, pullback(dout)

    program = jax.jit(
        programs.traced_under(mesh, both_ways),
        in_shardings=(everywhere, maps, maps),
        out_shardings=(maps, (everywhere, maps)),
    )
    return program.lower(params, x, x)
