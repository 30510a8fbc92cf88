"""etils, whose paths take the names of the folders above for a part of the pattern in a glob.

Orbax and tensorflow-datasets look for their files by such globs. In a folder `run[1]`, Orbax finds
none of a checkpoint's parts, puts nothing together, and calls it saved. In `run*`, it finds those
of `run1`, too.
"""

import glob
import os
from collections.abc import Iterator

from etils import epath

_Path = type(epath.Path())


class Folder(_Path):
    """A path of this machine; in a glob, the pattern alone is one.

    What `epath.Path` makes of it, and `/` or `parent`, is of this class again: it stays what it is
    on its way through a library.
    """

    def glob(self, pattern: str) -> Iterator["Folder"]:
        """Yields what matches `pattern` below this folder."""
        for name in glob.iglob(pattern, root_dir=os.fspath(self), recursive=True):
            yield self / name
