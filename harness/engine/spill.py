"""Events on disk: where a queue puts what its memory does not hold.

First in, first out. The files are temporary and without a name, so that nothing is left behind
when the process ends; there is none as long as nothing is spilled. What has been read is
given back to the disk in one piece: events are written to one file while another is read, and
the files change places when that one is read to its end. So at most twice what waits is kept.

Writing and reading block for as long as the system's file cache takes.
"""

from __future__ import annotations

import pickle
import struct
import tempfile
from collections import deque
from typing import IO, Generic, TypeVar

from harness.engine.result import Event

__all__ = ["SpillFile"]

LENGTH = struct.Struct("<Q")
Owner = TypeVar("Owner")


class SpillFile(Generic[Owner]):
    """Spilled events, each with whom it belongs to; the latter stays in memory."""

    def __init__(self) -> None:
        self._owners: deque[Owner] = deque()
        self._reading: IO[bytes] | None = None
        self._writing: IO[bytes] | None = None
        self._unread = 0

    def __len__(self) -> int:
        return len(self._owners)

    def put(self, owner: Owner, event: Event) -> None:
        """Keep an event.

        Raises:
            Exception: if it cannot be written, or made into bytes; nothing has changed then.
        """
        data = pickle.dumps(event, pickle.HIGHEST_PROTOCOL)
        if self._writing is None:
            self._writing = tempfile.TemporaryFile()  # noqa: SIM115 (it outlives this call)
        end = self._writing.tell()
        try:
            self._writing.write(LENGTH.pack(len(data)) + data)
            self._writing.flush()
        except OSError:
            self._writing.seek(end)
            self._writing.truncate()
            raise
        self._owners.append(owner)

    def take(self) -> tuple[Owner, Event | None]:
        """Remove and return the oldest event; None stands for one that cannot be read."""
        if not self._unread:
            self._turn()
        owner = self._owners.popleft()
        self._unread -= 1
        assert self._reading is not None  # there is something unread in it
        try:
            (length,) = LENGTH.unpack(self._reading.read(LENGTH.size))
            event: Event | None = pickle.loads(self._reading.read(length))
        except Exception:  # whatever a damaged file makes of it
            event = None
        if not self._owners:
            self.close()
        return owner, event

    def _turn(self) -> None:
        """Read from now on what has been written until now."""
        if self._reading is not None:
            self._reading.close()
        self._reading, self._writing = self._writing, None
        assert self._reading is not None  # what was put and is not read is in it
        self._reading.seek(0)
        self._unread = len(self._owners)

    def close(self) -> None:
        """Give the files back to the system; what is in them is lost."""
        for file in (self._reading, self._writing):
            if file is not None:
                file.close()
        self._reading = self._writing = None
        self._owners.clear()
        self._unread = 0
