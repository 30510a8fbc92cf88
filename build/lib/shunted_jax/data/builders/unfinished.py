"""A data set that is being made: it may take several calls, and shows itself when complete.

    <version>.incomplete/    what the next call needs to go on; removed at the end
        lock                 held by the process that is at it
        data/                becomes <version>
            *.array_record-* a shard has its name from the moment that it is whole and on the disk

tensorflow-datasets looks into folders that are named by a version alone, so that nobody finds a
data set before its end.
"""

import dataclasses
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from array_record.python import array_record_module

from shunted_jax.data.builders.durable import replacing, to_disk
from shunted_jax.errors import UserError

logger = logging.getLogger(__name__)


def is_there(final: Path) -> bool:
    """Returns whether a data set is finished.

    Raises:
        UserError: there is something else at `final`.
    """
    if not final.exists():
        return False
    info = final / "dataset_info.json"
    if not info.exists():
        raise UserError(f"{final} is there and is no data set (no {info.name}): move it away")
    file_format = json.loads(info.read_text()).get("fileFormat", "tfrecord")
    if file_format != "array_record":
        raise UserError(
            f"{final} is there already, as {file_format} and not as array_record: choose another "
            "--data-dir, into which the subcommand from-tfrecord can convert it"
        )
    # Left where a call was killed after the renaming.
    shutil.rmtree(_work_folder(final), ignore_errors=True)
    logger.info("%s is there already", final)
    return True


def finish(final: Path, make: Callable[["Unfinished"], None]) -> None:
    """Makes a data set's folder, or what an earlier call left to do of it.

    Args:
        final: the data set's own folder, named by its version; not there a moment ago.
        make: makes all files of the data set, but for the shards that are there already.

    Raises:
        UserError: another process is making it, the disk does not do what it should, or what is at
            `final` is something else.
    """
    unfinished = Unfinished(_work_folder(final))
    try:
        unfinished.data.mkdir(parents=True, exist_ok=True)
        with open(unfinished.folder / "lock", "w") as lock:
            _take(lock, final)
            # Another process may have finished it between the caller's look and the lock.
            if not is_there(final):
                make(unfinished)
                unfinished.rename(final)
            shutil.rmtree(unfinished.folder, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{final} cannot be made: {error}; once that is put right, the same command goes on "
            "from what is done"
        ) from error


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """What there is of a data set that is being made.

    Attributes:
        folder: for anything that saves the next call some work.
    """

    folder: Path

    @property
    def data(self) -> Path:
        """The folder that is going to be the data set."""
        return self.folder / "data"

    def keep_only_if(self, stamp: dict[str, object]) -> None:
        """Drops what an earlier call did, unless it was given the same `stamp`.

        Args:
            stamp: all that the files depend on, of what JSON can hold.
        """
        path, text = self.folder / "made_from.json", json.dumps(stamp, indent=2)
        # Without a stamp there is nothing yet, or a data folder that was dropped by half.
        if not path.exists() or path.read_text() != text:
            if path.exists():
                logger.info("%s was begun from something else: starting over", self.folder)
            for other in self.folder.iterdir():
                if other.is_dir():
                    shutil.rmtree(other)
                elif other.name != "lock":
                    other.unlink()
            self.data.mkdir()
            with replacing(path) as partial:
                partial.write_text(text)

    def has(self, shard: str) -> bool:
        """Whether a shard is finished."""
        return (self.data / shard).exists()

    def check_space(self, total: int) -> None:
        """Checks that the disk has room.

        Args:
            total: the bytes of the whole data set.

        Raises:
            UserError: what is not done yet is more than there is room for.
        """
        needed = total - sum(path.stat().st_size for path in self.data.iterdir())
        free = shutil.disk_usage(self.data).free
        if free < needed:
            raise UserError(
                f"{self.data} has {free / 1e9:,.1f} GB of free space, and {needed / 1e9:,.1f} GB "
                "are needed: free some, or choose another --data-dir"
            )

    def write_shard(self, name: str, records: Iterable[bytes], count: int) -> None:
        """Writes a shard; it has its name when it is whole.

        Args:
            name: the file's.
            records: its content.
            count: how many they must be.
        """
        with replacing(self.data / name, partial=self.folder / "shard.partial") as partial:
            # Each record a group of its own, as tensorflow-datasets has it: read in any order.
            writer = array_record_module.ArrayRecordWriter(os.fspath(partial), "group_size:1")
            for record in records:
                writer.write(record)
            try:
                writer.close()
            except RuntimeError as error:  # its way to say that the disk is full
                raise OSError(str(error)) from error
            # Not all that goes wrong does it say.
            written = array_record_module.ArrayRecordReader(os.fspath(partial)).num_records()
            if written != count:
                raise OSError(f"{name} holds {written:,} records after {count:,} were written")

    def rename(self, final: Path) -> None:
        """Gives the data set its name."""
        for path in (*self.data.iterdir(), self.data):
            to_disk(path)
        os.rename(self.data, final)
        to_disk(final.parent)


def _work_folder(final: Path) -> Path:
    return final.with_name(f"{final.name}.incomplete")


def _take(lock: TextIO, final: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{final} is being made by another process: wait for it to end") from None
