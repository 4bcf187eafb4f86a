"""Which sockets are watched, and who is called when one is ready.

The event loop's own `add_reader` costs more than the system call behind it, and a short
connection needs it, and its counterpart, several times. On Linux the sockets of the proxies
are therefore asked for by `epoll` itself, past the loop. A loop that was made for it
(`new_loop`) has one `epoll` for them and for its own: what comes in is passed on while the
loop still waits, and no turn of it is paid for. On any other loop they are in an epoll of
their own, which the loop watches as one descriptor. Elsewhere the loop watches each socket.
"""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import sys
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

__all__ = ["Watch", "new_loop"]

_EVENTS_PER_TURN = 256
_LINUX = sys.platform.startswith("linux")
# As numbers here: a module's name is found faster than an attribute of another module.
_IN, _OUT = (select.EPOLLIN, select.EPOLLOUT) if _LINUX else (1, 4)
_Call = Callable[[], None]


class Watch:
    """Readers and writers by descriptor; who closes one must have stopped both before.

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
        if not _LINUX:
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
            self._epoll.modify(fd, _IN | _OUT)
        else:
            self._epoll.register(fd, _IN)
        self.readers[fd] = call

    def write(self, fd: int, call: _Call) -> None:
        """Call whenever something can be written, or there is an error."""
        if self._epoll is None:
            self._loop.add_writer(fd, call)
        elif fd in self.readers:
            self._epoll.modify(fd, _IN | _OUT)
        else:
            self._epoll.register(fd, _OUT)
        self.writers[fd] = call

    def stop_reading(self, fd: int) -> None:
        del self.readers[fd]
        if self._epoll is None:
            self._loop.remove_reader(fd)
        elif fd in self.writers:
            self._epoll.modify(fd, _OUT)
        else:
            self._epoll.unregister(fd)

    def stop_writing(self, fd: int) -> None:
        del self.writers[fd]
        if self._epoll is None:
            self._loop.remove_writer(fd)
        elif fd in self.readers:
            self._epoll.modify(fd, _IN)
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
        self.call(self._epoll.poll(0, _EVENTS_PER_TURN))

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
                if reader is not None and event & ~_OUT:
                    reader()
                    writer = writers.get(fd)
                if writer is not None and event & ~_IN:
                    writer()
            except Exception as exc:
                context = {"message": "a proxied connection failed", "exception": exc}
                self._loop.call_exception_handler(context)
        return left


class _SharedSelector(selectors.DefaultSelector):
    """asyncio's selector, whose epoll also has the sockets of one `Watch`.

    Attributes:
        wanted: something was asked of the loop since it began to wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watch: Watch | None = None
        self.wanted = False
        self._shared = self._duplicate()

    def _duplicate(self) -> Any:
        # A descriptor of its own: whoever closes this object leaves the selector's open.
        return select.epoll.fromfd(os.dup(self.fileno()))

    def share(self, watch: Watch) -> Any:
        """Call `watch` from now on, until `watch` is None again; returns the epoll to use."""
        self.watch = watch
        return self._duplicate()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.watch is None:
            return super().select(timeout)
        ready: list[tuple[selectors.SelectorKey, int]] = []
        for fd, event in self._wait(timeout, self.watch):
            try:
                key = self.get_key(fd)
            except KeyError:
                continue  # an earlier call has closed it
            mask = (selectors.EVENT_READ if event & ~_OUT else 0) | (
                selectors.EVENT_WRITE if event & ~_IN else 0
            )
            if mask & key.events:
                ready.append((key, mask & key.events))
        return ready

    def _wait(self, timeout: float | None, watch: Watch) -> list[tuple[int, int]]:
        """Wait, serve the proxies' sockets meanwhile, and return what is the loop's own."""
        poll, until = self._shared.poll, time.monotonic() + timeout if timeout else 0.0
        self.wanted = False
        while True:
            events = poll(timeout, _EVENTS_PER_TURN)
            left = watch.call(events)
            # As long as nobody has asked the loop for anything, it has nothing to do.
            if left or self.wanted or not events or timeout == 0:
                return left
            if timeout is not None:
                timeout = max(0.0, until - time.monotonic())

    def close(self) -> None:
        self._shared.close()
        super().close()


class _ProxyLoop(asyncio.SelectorEventLoop):
    """The stock loop, on a selector that serves a proxy's sockets by itself while it waits."""

    def __init__(self) -> None:
        self.shared_selector = _SharedSelector()
        super().__init__(self.shared_selector)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self.shared_selector.wanted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.shared_selector.wanted = True
        return super().call_at(when, callback, *args, context=context)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop on which a proxy server is fastest (a `loop_factory`)."""
    return _ProxyLoop() if _LINUX else asyncio.new_event_loop()
