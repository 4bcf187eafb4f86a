"""Which sockets are watched, and who is called when one is ready.

The event loop's own `add_reader` costs more than the system call behind it, and a short
connection needs it, and its counterpart, several times. On Linux the sockets of the proxies
are therefore asked for by `epoll` itself, past the loop. A loop that was made for it
(`harness.proxy.loop`) has one epoll for them and for its own: what comes in is passed on
while the loop still waits, and no turn of it is paid for. On any other loop they are in an
epoll of their own, which the loop watches as one descriptor. Elsewhere the loop watches each.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["EVENTS_PER_TURN", "IN", "LINUX", "OUT", "Watch"]

EVENTS_PER_TURN = 256
LINUX = sys.platform.startswith("linux")
# As numbers here: a module's name is found faster than an attribute of another module.
IN, OUT = (select.EPOLLIN, select.EPOLLOUT) if LINUX else (1, 4)
_Call = Callable[[], None]


class Watch:
    """Readers and writers by descriptor; who closes one must have stopped or forgotten both.

    Attributes:
        turns: how often it was looked who is ready.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.turns = 0
        self.readers: dict[int, _Call] = {}
        self.writers: dict[int, _Call] = {}
        self._epoll: Any = None
        self._within: Any = None
        if not LINUX:
            return
        selector = getattr(loop, "shared_selector", None)
        if selector is not None and selector.watch is None:
            self._within = selector
            self._epoll = selector.share(self)
        else:
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._ready)

    def read(self, fd: int, call: _Call) -> None:
        """Call whenever there is something to read, or the end, or an error."""
        if self._epoll is None:
            self._loop.add_reader(fd, call)
        elif fd in self.writers:
            self._epoll.modify(fd, IN | OUT)
        else:
            self._epoll.register(fd, IN)
        self.readers[fd] = call

    def read_by(self, fd: int, call: _Call) -> bool:
        """Have another one called from now on; says whether anybody is called at all."""
        if fd not in self.readers:
            return False
        if self._epoll is None:
            self._loop.add_reader(fd, call)
        self.readers[fd] = call
        return True

    def write(self, fd: int, call: _Call) -> None:
        """Call whenever something can be written, or there is an error."""
        if self._epoll is None:
            self._loop.add_writer(fd, call)
        elif fd in self.readers:
            self._epoll.modify(fd, IN | OUT)
        else:
            self._epoll.register(fd, OUT)
        self.writers[fd] = call

    def stop_reading(self, fd: int) -> None:
        del self.readers[fd]
        if self._epoll is None:
            self._loop.remove_reader(fd)
        elif fd in self.writers:
            self._epoll.modify(fd, OUT)
        else:
            self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """Stop reading a descriptor that is closed next: epoll then forgets it unasked."""
        if self._epoll is None:
            self._loop.remove_reader(fd)
        self.readers.pop(fd, None)

    def stop_writing(self, fd: int) -> None:
        del self.writers[fd]
        if self._epoll is None:
            self._loop.remove_writer(fd)
        elif fd in self.readers:
            self._epoll.modify(fd, IN)
        else:
            self._epoll.unregister(fd)

    def close(self) -> None:
        if self._epoll is None:
            return
        if self._within is not None:
            self._within.watch = None
        else:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._epoll = None

    def _ready(self) -> None:
        self.call(self._epoll.poll(0, EVENTS_PER_TURN))

    def call(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Call whom these events are for; return those that are for nobody here."""
        self.turns += 1
        readers, writers = self.readers, self.writers
        left: list[tuple[int, int]] = []
        for fd, event in events:
            # Asked for at each turn: an earlier call may have closed this one. If its number
            # is another socket's by now, that one is asked in vain and says so.
            reader, writer = readers.get(fd), writers.get(fd)
            if reader is writer:  # both None
                left.append((fd, event))
                continue
            try:
                if reader is not None and event & ~OUT:
                    reader()
                    writer = writers.get(fd)
                if writer is not None and event & ~IN:
                    writer()
            except Exception as exc:
                context = {"message": "a proxied connection failed", "exception": exc}
                self._loop.call_exception_handler(context)
        return left
