"""Folders without weights that can be read as they are, and the command for each kind."""

import shlex
from pathlib import Path

from shunted_jax.errors import some
from shunted_jax.hub.weight_files import NAMES

# What single files of weights are called.
_FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".pdparams")
_CONVERT = "python convert_weights.py"


def why_not_read(folder: Path, out: str) -> str:
    """Returns a sentence on what a folder is that holds none of the known files.

    Args:
        folder: a folder.
        out: what was to be made of it, for the commands.
    """
    return (
        _of_this_program(folder, out)
        or _of_deepspeed(folder, out)
        or _of_torch(folder, out)
        or _of_cache(folder)
        or _of_nothing_known(folder, out)
    )


def _of_this_program(folder: Path, out: str) -> str | None:
    # The Orbax items of a checkpoint; a run has some, each in a folder of its own.
    if all((folder / item).is_dir() for item in ("params", "batch_stats", "meta")):
        kind = "a checkpoint of this program"
    elif (folder / "checkpoints").is_dir() or any(folder.glob("*/params")):
        kind = "a run's folder"
    else:
        return None
    return (
        f"{folder} is {kind}, which load_pretrained reads as it is; "
        f"{_CONVERT} --to-torch {_typed(folder)} {_beside(out, '.pth')} makes a PyTorch file of it"
    )


def _of_deepspeed(folder: Path, out: str) -> str | None:
    whole = (folder / "zero_to_fp32.py").exists() or (folder / "latest").exists()
    if not whole and not _any_of(folder, "*zero_pp_rank_*"):
        return None
    merged = _beside(out, "-merged")
    return (
        f"{folder} is a checkpoint that DeepSpeed's ZeRO spread over its workers; where DeepSpeed "
        "is installed, python -m deepspeed.utils.zero_to_fp32 "
        f"{_typed(folder if whole else folder.parent)} {merged} puts it together, and "
        f"{_CONVERT} {merged} {_typed(out)} converts that"
    )


def _of_torch(folder: Path, out: str) -> str | None:
    part = _any_of(folder, "*.distcp")
    if part is None:
        return None
    merged = _beside(out, ".pth")
    return (
        f"{folder} is a distributed checkpoint of PyTorch (.distcp); where PyTorch is installed, "
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch "
        f"{_typed(part.parent)} {merged} makes one file of it, and "
        f"{_CONVERT} {merged} {_typed(out)} converts that"
    )


def _of_cache(folder: Path) -> str | None:
    snapshots = sorted(folder.glob("snapshots/*"))
    if not snapshots:
        return None
    return f"{folder} is a repository in a hub's cache: give a snapshot of it, {snapshots[-1]}"


def _of_nothing_known(folder: Path, out: str) -> str:
    entries = sorted(folder.iterdir())
    files = [entry for entry in entries if entry.is_file() and entry.suffix in _FILES]
    why = f"{folder} is a folder in which there is none of {', '.join(NAMES)}"
    if files:
        return (
            f"{why}: give a file itself, as in {_CONVERT} {_typed(files[0])} {_typed(out)} (there "
            f"is {some([file.name for file in files])})"
        )
    held = some([entry.name for entry in entries]) or "nothing"
    return f"{why}, but {held}: give the file of weights, or the folder that it lies in"


def _any_of(folder: Path, pattern: str) -> Path | None:
    """Returns a file of that name in the folder or in one of its own."""
    return next((path for each in (pattern, f"*/{pattern}") for path in folder.glob(each)), None)


def _beside(out: str, suffix: str) -> str:
    return _typed(out.rstrip("/") + suffix)


def _typed(path: Path | str) -> str:
    return shlex.quote(str(path))
