"""Weights as other people saved them: a file, a folder, or a hub's repository."""

import dataclasses
import hashlib
import os
from pathlib import Path

from shunted_jax.convert.files import Loaded, read_file
from shunted_jax.errors import UserError
from shunted_jax.hub.address import hub_address
from shunted_jax.hub.config_file import ConfigFile, read_config
from shunted_jax.hub.fetching import fetch
from shunted_jax.hub.other_folders import why_not_read
from shunted_jax.hub.weight_files import read_weight_files, weights_among
from shunted_jax.storage import on_disk


@dataclasses.dataclass(frozen=True)
class Source:
    """What was found.

    Attributes:
        loaded: as `read_file` returns it.
        files: that they were in.
        config: the `config.json` beside them; None where there is none, or a single file was given.
        hub: of a hub's repository, its `repository` and `revision`, the commit; else empty.
    """

    loaded: Loaded
    files: list[Path]
    config: ConfigFile | None = None
    hub: dict[str, str] = dataclasses.field(default_factory=dict)

    def origin(self) -> dict[str, str]:
        """Returns where the tensors are from: `name`, `sha256`, and what `hub` has.

        Of several files, the checksum is of one behind the other, by their names: what
        `cat NAME... | sha256sum` says.
        """
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                while part := file.read(2**20):
                    digest.update(part)
        name = ", ".join(path.name for path in self.files)
        return {"name": name, "sha256": digest.hexdigest(), **self.hub}


def read_source(source: str | os.PathLike, out: str | os.PathLike) -> Source:
    """Reads weights, wherever they lie; to be called, and their numbers read, within `reading`.

    Args:
        source: a file, a folder, or an address such as hf://ORG/REPO.
        out: what is to be made of them, for messages.

    Raises:
        UserError: there are none that can be read.
        RunError: the hub cannot be reached.
    """
    address = hub_address(source)
    folder = fetch(address) if address else Path(on_disk(source))
    if not folder.is_dir():
        return Source(read_file(folder), [folder])
    first = weights_among([entry.name for entry in folder.iterdir()], folder)
    if first is None:
        raise UserError(why_not_read(folder, os.fspath(out)))
    loaded, files = read_weight_files(folder / first)
    hub = {"repository": address.repository, "revision": folder.name} if address else {}
    return Source(loaded, files, read_config(folder), hub)
