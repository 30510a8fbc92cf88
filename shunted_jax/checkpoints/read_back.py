"""A checkpoint that was just saved, opened again as those who read it will open it."""

import contextlib
from collections.abc import Iterable

import orbax.checkpoint as ocp
from etils import epath

from shunted_jax.checkpoints.damage import DamagedError, read_patiently
from shunted_jax.checkpoints.folders import read_meta_once
from shunted_jax.checkpoints.hosts import alone
from shunted_jax.errors import RunError


def read_back(folder: epath.Path, items: Iterable[str]) -> None:
    """Opens each array of a checkpoint, without reading what is in them.

    What saves can go wrong without an error. Days later, nothing would be there.

    Args:
        folder: the checkpoint's.
        items: those of arrays.

    Raises:
        RunError: it cannot be opened.
    """

    def read() -> None:
        read_meta_once(folder)
        for item in items:
            reader = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone())
            with contextlib.closing(reader):
                reader.metadata(folder / item)

    try:
        read_patiently(read, folder)
    except DamagedError as error:
        raise RunError(
            f"{folder} was just saved, and cannot be read back: {error}. What goes on from here "
            "would be lost as well: name another folder, on another disk"
        ) from error
