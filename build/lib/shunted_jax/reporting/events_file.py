"""TensorBoard's files. A call that writes returns when it is done, and raises where it fails.

tensorboardX's own writer works in a thread. On a full disk that thread dies with a traceback, and
the next call waits without end. Nobody can tell what it has written so far.
"""

import os
import socket
import struct
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c


class EventsFile:
    """A new file among those that TensorBoard shows as one run."""

    def __init__(self, folder: Path, purge_step: int | None = None):
        """Opens the file.

        Args:
            folder: of the run's files; made if needed.
            purge_step: earlier files' numbers of this step and later ones are not shown.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab")
        self._add(file_version="brain.Event:2")
        if purge_step is not None:
            self._add(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        self._file.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends numbers by name under a step; they are in the file when this returns."""
        summary = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step=step, summary=Summary(value=summary))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _add(self, **fields: object) -> None:
        event = Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        for part in (length, event):
            self._file.write(part + struct.pack("<I", masked_crc32c(part)))
