"""Files that grow line by line, on their way to a bucket, which takes whole files only."""

import logging
import shutil
import tempfile
from pathlib import Path

from etils import epath

from shunted_jax.errors import RunError, in_a_line

logger = logging.getLogger(__name__)


class Spool:
    """A folder of this host whose files are copied to one in a bucket.

    Attributes:
        folder: where to write them.
    """

    def __init__(self, target: epath.Path):
        """Makes an empty folder.

        Args:
            target: where the files go, by their paths below `folder`.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="shunted-jax-"))
        self._target = target
        self._copied: dict[Path, tuple[int, int]] = {}

    def fetch(self, name: str) -> None:
        """Copies a file from the bucket, if there is one."""
        if (self._target / name).exists():
            (self.folder / name).write_bytes((self._target / name).read_bytes())

    def copy(self) -> None:
        """Copies what has changed since the last call to the bucket.

        Raises:
            RunError: the bucket does not take it.
        """
        for path in sorted(self.folder.rglob("*")):
            stat = path.stat()
            state = stat.st_size, stat.st_mtime_ns
            if path.is_dir() or self._copied.get(path) == state:
                continue
            target = self._target / path.relative_to(self.folder).as_posix()
            try:
                target.write_bytes(path.read_bytes())
            except Exception as error:  # of sockets, HTTP, credentials: whatever stands in between
                raise RunError(
                    f"{target} cannot be written: {in_a_line(error)}; once it can be, start again "
                    f"with the same --workdir. What was to be there is in {self.folder}"
                ) from error
            self._copied[path] = state

    def close(self, *, failed: bool = False) -> None:
        """Copies what is left and removes the folder, which stays if that does not work.

        Args:
            failed: do not raise, as something else is being raised already.

        Raises:
            RunError: the bucket does not take it.
        """
        try:
            self.copy()
        except RunError as error:
            if not failed:
                raise
            logger.warning("%s", error)
        else:
            shutil.rmtree(self.folder)
