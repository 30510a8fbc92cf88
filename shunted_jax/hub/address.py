"""Addresses of a hub: hf://ORG/REPO, or hf://ORG/REPO@REVISION."""

import os
import re
from typing import NamedTuple

from etils import epath

from shunted_jax.errors import UserError
from shunted_jax.storage import as_path

_SCHEME = "hf://"


class HubAddress(NamedTuple):
    """A repository, and a branch, tag or commit of it; None is what the hub takes by itself."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        """The address as one writes it."""
        return _SCHEME + self.repository + (f"@{self.revision}" if self.revision else "")


def hub_address(path: str | os.PathLike) -> HubAddress | None:
    """Returns the address that `path` is; None if it is a folder or a file.

    Raises:
        UserError: it begins as an address does, and is none.
    """
    text = os.fspath(path)
    if not text.startswith(_SCHEME):
        return None
    repository, at, revision = text.removeprefix(_SCHEME).rstrip("/").partition("@")
    # As the hub itself wants it, which would say so in three lines.
    plain = re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII)
    if not plain or "--" in repository or ".." in repository or bool(at) != bool(revision):
        raise UserError(f"{text}: a hub's address is hf://ORG/REPO or hf://ORG/REPO@REVISION")
    return HubAddress(repository, revision or None)


def as_source(path: str | os.PathLike) -> str | epath.Path:
    """Returns a hub's address as it is, and any other path as `as_path`; raises as both do."""
    return os.fspath(path) if hub_address(path) else as_path(path)
