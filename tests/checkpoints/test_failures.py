"""Which of an error's causes is to blame: for a save that failed, and for a read that did."""

import errno
import tempfile

import pytest
from etils import epath

from shunted_jax.checkpoints import failures
from shunted_jax.checkpoints.damage import is_damage
from shunted_jax.checkpoints.failures import why_not_written

FULL = OSError(errno.ENOSPC, "No space left on device")
REFUSED = OSError("Forbidden: https://storage.googleapis.com/...")  # gcsfs's has no number


def raised(outer, below, how):
    """Returns `outer` as it is once it was raised because of `below`, or hiding it."""
    try:
        try:
            raise below
        except type(below):
            if how == "in its handling":
                raise outer  # noqa: B904
            raise outer from (below if how == "from it" else None)
    except type(outer) as error:
        return error


@pytest.mark.parametrize("how", ["from it", "in its handling", "hiding it"])
def test_what_kept_a_save_from_being_written_is_found_even_where_it_is_hidden(
    how, tmp_path, monkeypatch
):
    checkpoints = epath.Path(tmp_path / "run" / "checkpoints")
    outer = raised(RuntimeError("cannot be saved"), raised(ValueError("0"), FULL, how), how)
    assert why_not_written(outer, checkpoints) == (
        f"nothing can be written into {tmp_path}/run: No space left on device; none is saved yet. "
        "Make room and start again with the same --workdir"
    )
    monkeypatch.setattr(failures, "in_bucket", lambda path: True)
    assert why_not_written(FULL, checkpoints) == (
        f"nothing can be written into {tempfile.gettempdir()}, the folder of temporary files "
        "(TMPDIR names another one): No space left on device; none is saved yet. Make room and "
        "start again with the same --workdir"
    )
    outer = raised(RuntimeError("cannot be saved"), raised(ValueError("0"), REFUSED, how), how)
    assert "run: OSError: Forbidden: https" in why_not_written(outer, checkpoints)
    outer = raised(RuntimeError("cannot be saved"), ValueError("0"), how)
    assert why_not_written(outer, checkpoints) is None


def test_what_lies_elsewhere_is_named_instead_of_the_run(tmp_path):
    checkpoints = epath.Path(tmp_path / "run" / "checkpoints")
    within = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "run" / "x"))
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/data/x.jpg")
    assert why_not_written(within, checkpoints).startswith(
        f"nothing can be written into {tmp_path}/run: Permission denied; none is saved yet. Have "
    )
    assert why_not_written(elsewhere, checkpoints) == (
        "/data/x.jpg: Permission denied; have its owner let you in, or name another; none is saved "
        "yet. Then start again with the same --workdir"
    )


@pytest.mark.parametrize(
    ("how", "damaged"), [("from it", False), ("in its handling", False), ("hiding it", True)]
)
def test_what_is_hidden_says_nothing_of_damage(how, damaged, tmp_path):
    outer = raised(ValueError("DATA_LOSS: checksum"), OSError(errno.EIO, "I/O error"), how)
    assert is_damage(outer, epath.Path(tmp_path)) == damaged
