"""Which sockets are watched, and who is called when one is ready.

The event loop's own `add_reader` costs more than the system call behind it, and a short
connection needs it, and its counterpart, several times. On Linux all sockets of the proxies
are therefore in an epoll of their own, which the loop watches as one descriptor; elsewhere
the loop watches each.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Watch"]

_EVENTS_PER_TURN = 256
_Call = Callable[[], None]


class Watch:
    """Readers and writers by descriptor; who closes one must have stopped both before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._readers: dict[int, _Call] = {}
        self._writers: dict[int, _Call] = {}
        self._epoll: Any = None
        if sys.platform.startswith("linux"):
            self._epoll = select.epoll()
            self._in, self._out = select.EPOLLIN, select.EPOLLOUT
            loop.add_reader(self._epoll.fileno(), self._ready)

    def read(self, fd: int, call: _Call) -> None:
        """Call whenever there is something to read, or the end, or an error."""
        if self._epoll is None:
            self._loop.add_reader(fd, call)
        elif fd in self._writers:
            self._epoll.modify(fd, self._in | self._out)
        else:
            self._epoll.register(fd, self._in)
        self._readers[fd] = call

    def write(self, fd: int, call: _Call) -> None:
        """Call whenever something can be written, or there is an error."""
        if self._epoll is None:
            self._loop.add_writer(fd, call)
        elif fd in self._readers:
            self._epoll.modify(fd, self._in | self._out)
        else:
            self._epoll.register(fd, self._out)
        self._writers[fd] = call

    def stop_reading(self, fd: int) -> None:
        del self._readers[fd]
        if self._epoll is None:
            self._loop.remove_reader(fd)
        elif fd in self._writers:
            self._epoll.modify(fd, self._out)
        else:
            self._epoll.unregister(fd)

    def stop_writing(self, fd: int) -> None:
        del self._writers[fd]
        if self._epoll is None:
            self._loop.remove_writer(fd)
        elif fd in self._readers:
            self._epoll.modify(fd, self._in)
        else:
            self._epoll.unregister(fd)

    def close(self) -> None:
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _ready(self) -> None:
        readers, writers = self._readers, self._writers
        for fd, event in self._epoll.poll(0, _EVENTS_PER_TURN):
            # Asked for at each turn: an earlier call may have closed this one. If its number
            # is another socket's by now, that one is asked in vain and says so.
            if event & ~self._out and (call := readers.get(fd)) is not None:
                self._call(call)
            if event & ~self._in and (call := writers.get(fd)) is not None:
                self._call(call)

    def _call(self, call: _Call) -> None:
        try:
            call()
        except Exception as exc:
            context = {"message": "a proxied connection failed", "exception": exc}
            self._loop.call_exception_handler(context)
