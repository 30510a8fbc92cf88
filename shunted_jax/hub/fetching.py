"""What is needed of a hub's repository, in `huggingface_hub`'s cache: the one module that has it.

`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` do here what they do everywhere.
"""

import contextlib
import logging
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shunted_jax.errors import RunError, UserError, in_a_line, some
from shunted_jax.hub import config_file
from shunted_jax.hub.address import HubAddress
from shunted_jax.hub.weight_files import NAMES, files_of, weights_among
from shunted_jax.terminal import on_terminal


def fetch(address: HubAddress) -> Path:
    """Returns a folder that holds the weights and `config.json` of a repository.

    Nothing else of the repository is fetched, and nothing twice. The folder's name is the commit.

    Args:
        address: of the repository.

    Raises:
        UserError: there is no such repository or revision, it has no weights, it is closed to
            whoever asks, or `huggingface_hub` is missing.
        RunError: the hub cannot be reached.
    """
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError:
        raise UserError(
            f"{address}: to read from a hub, pip install huggingface_hub safetensors"
        ) from None
    try:
        with _quiet_elsewhere():
            if constants.HF_HUB_OFFLINE:
                return _from_cache(address, huggingface_hub)
            return _from_hub(address, huggingface_hub)
    except (UserError, RunError, AttributeError, NameError, TypeError):
        raise
    except Exception as error:  # of sockets, HTTP, the hub, the disk: whatever stands in between
        raise _explained(error, address, errors) from error


def _from_hub(address: HubAddress, hub: Any) -> Path:
    info = hub.HfApi().model_info(address.repository, revision=address.revision)
    names = [file.rfilename for file in info.siblings or []]
    first = weights_among(names, address)
    if first is None:
        raise UserError(_without_weights(address, names))

    def get(name: str) -> Path:
        # By the revision that was asked for, so that it is found again without the hub.
        path = Path(hub.hf_hub_download(address.repository, name, revision=address.revision))
        if info.sha not in path.parts:
            raise RunError(f"{address} has changed while it was fetched: start again")
        return path

    if config_file.NAME in names:
        get(config_file.NAME)
    beginning = get(first)
    for name in files_of(beginning):
        if name in names and name != first:
            get(name)
    return beginning.parent


def _from_cache(address: HubAddress, hub: Any) -> Path:
    for name in NAMES:
        path = hub.try_to_load_from_cache(address.repository, name, revision=address.revision)
        if isinstance(path, str):  # else None, or a mark that the repository has no such file
            return Path(path).parent
    raise UserError(
        f"{address} is not in the cache {hub.constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: "
        "unset it once to fetch the weights"
    )


def _without_weights(address: HubAddress, names: list[str]) -> str:
    others = [n for n in names if n.endswith((".pth", ".pt", ".safetensors", ".ckpt", ".bin"))]
    wanted = f"{address} has none of {', '.join(NAMES)}"
    if others:
        of = f" --revision {shlex.quote(address.revision)}" if address.revision else ""
        return (
            f"{wanted}; hf download {address.repository} {shlex.quote(others[0])}{of} "
            f"--local-dir . fetches one of its files ({some(others)}), which convert_weights.py "
            "takes"
        )
    return f"{wanted}, so no weights that can be read: it has {some(names) or 'no files'}"


def _explained(error: Exception, address: HubAddress, errors: Any) -> UserError | RunError:
    """Returns the sentence for what went wrong on the way to a repository."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    login = "`hf auth login` tells the hub who you are"
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(
            f"{address.repository} has no revision {address.revision!r}: take a branch, a tag or a "
            "commit of it, or leave @REVISION out"
        )
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return UserError(
            f"{address} lets in only people whom its owner has admitted: ask on its page, and "
            f"then {login}"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return UserError(
            f"there is no {address} that can be seen from here: check its name, or, if it is "
            f"private, {login}"
        )
    return RunError(
        f"{address} cannot be fetched ({in_a_line(error)}): try again, or set HF_HUB_OFFLINE=1 to "
        "take what was fetched before"
    )


@contextlib.contextmanager
def _quiet_elsewhere() -> Iterator[None]:
    """Shows `huggingface_hub`'s bars and warnings on a terminal alone; later, all is as before."""
    if on_terminal():
        yield
        return
    from huggingface_hub import utils

    logger = logging.getLogger("huggingface_hub")
    level, had_bars = logger.level, not utils.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        utils.disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if had_bars:
                utils.enable_progress_bars()
