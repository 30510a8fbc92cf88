"""What the processes that prepare images need of this machine, and why they are gone."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator

from absl import flags

from shunted_jax.adapters.grain import BATCHES_OF_A_WORKER, exit_code_of_worker
from shunted_jax.config import Config
from shunted_jax.errors import RunError, UserError, causes
from shunted_jax.resources import SHARED_MEMORY, in_units, refusal, shared_memory

# Of each kind: the one in use, one ahead of it, and one that is being taken over.
_BATCHES_TAKEN = 3

_MIB = 2**20


def _more(size: int) -> str:
    return f"give the container more (docker run --shm-size={-(-size // _MIB)}m, or --ipc=host)"


def let_grain_ask_flags() -> None:
    """Has absl's flags count as parsed where no program has parsed them, as in a notebook.

    Grain asks some of its own when it starts worker processes.
    """
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def check_shared_memory(
    config: Config, eval_images: int, process_count: int = 1, *, training: bool
) -> None:
    """Checks that what the processes have ready finds room in the memory that they share.

    Where it is full there is no error: the kernel ends whoever writes there.

    Args:
        config: of the run; the sizes of batches and images and `data.num_workers` are used.
        eval_images: how many there are to evaluate on, on all hosts.
        process_count: the number of hosts.
        training: whether batches for training are read besides.

    Raises:
        UserError: there is less than is needed where the devices are slower than the data.
    """
    if not config.data.num_workers or not os.path.isdir(SHARED_MEMORY):
        return

    def needed(workers: int) -> int:
        batches = BATCHES_OF_A_WORKER * workers + _BATCHES_TAKEN
        of_split = -(-eval_images // config.eval_batch_size)
        rows = min(batches, of_split) * config.eval_batch_size
        rows += batches * config.batch_size if training else 0
        return rows // process_count * 3 * config.data.image_size**2

    usage = shutil.disk_usage(SHARED_MEMORY)
    workers = config.data.num_workers
    if needed(workers) <= usage.free:
        return
    fewer = max((n for n in range(1, workers) if needed(n) <= usage.free), default=0)
    more = _more(needed(workers) + usage.used)
    by_threads = "" if fewer else ", which reads by threads"
    raise UserError(
        f"config.data.num_workers is {workers}, and what these processes have ready takes up to "
        f"{in_units(needed(workers))} of {shared_memory()}: {more}, or take "
        f"--config.data.num_workers={fewer}{by_threads}"
    )


@contextlib.contextmanager
def naming_what_is_short() -> Iterator[None]:
    """Names what the processes lack, where they cannot be started or are gone.

    Raises:
        RunError: that is why; in place of what was raised.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (reason := why_gone(error)) is None:
            raise
        raise RunError(reason) from error


def why_gone(error: BaseException) -> str | None:
    """Returns what ended the processes, and the remedy; None where it was the program.

    Args:
        error: which reading a batch raised.
    """
    more = _more(2 * shutil.disk_usage(SHARED_MEMORY).total if os.path.isdir(SHARED_MEMORY) else 0)
    again = "and start again with the same --workdir"
    for one in causes(error, hidden=True):
        code = exit_code_of_worker(one)
        if code == -signal.SIGBUS:
            return (
                f"a process that prepares images was ended by SIGBUS, as {shared_memory()} was "
                f"full: {more}, or take fewer --config.data.num_workers, {again}"
            )
        if code == -signal.SIGKILL:
            return (
                "a process that prepares images was killed (SIGKILL), as the system does for want "
                f"of memory: take fewer --config.data.num_workers, {again}"
            )
    refused = refusal(error)
    if refused is None or refused.path is not None or not os.path.isdir(SHARED_MEMORY):
        return None  # of a file
    # Queues and locks between processes lie there, too, and their errors name no path.
    return f"{shared_memory()}: {refused.words}; {more}, {again}"
