"""The way to upstream: at once where that is possible, else while the client waits.

An upstream on the same machine answers a connect before the call returns; then nothing is
made for it but the socket. Everything slower is a `Dial`: addresses tried in turn within one
time limit, or a host name looked up before.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

from harness.proxy.address import LOOPBACK, Address, AddressError, literal, resolve, split
from harness.proxy.alarms import Alarm
from harness.proxy.sockets import Socket, begin_connect

if TYPE_CHECKING:
    from harness.proxy.proxy import Proxy

__all__ = ["Dial", "without_lookup"]


def without_lookup(upstream: str) -> list[Address] | None:
    """Return upstream's addresses if they are known without asking anybody."""
    try:
        host, port = split(upstream)
    except AddressError:
        return []
    found = literal(host or LOOPBACK, port)
    if found is not None:
        return [found]
    if host.lower() == "localhost":
        return [Address(socket.AF_INET, LOOPBACK, port), Address(socket.AF_INET6, "::1", port)]
    return None


class Dial:
    """One client that waits for its upstream; nothing of it is read before that answers."""

    def __init__(self, proxy: Proxy, client: Socket, peer: tuple[Any, ...], number: int) -> None:
        self.proxy, self.client, self.peer, self.number = proxy, client, peer, number
        self._core = proxy.core
        self._left: list[Address] = []
        self._upstream: Socket | None = None
        self._fd = -1
        self._task: asyncio.Task[list[Address]] | None = None
        self._limit: Alarm | None = None
        self._over = False

    def look_up(self) -> None:
        """Try the addresses of a host name."""
        self._task = self._core.loop.create_task(self._resolve())
        self._task.add_done_callback(self._looked_up)

    async def _resolve(self) -> list[Address]:
        try:
            return await resolve(self.proxy.upstream, self._core.limits.lookup_timeout_s)
        except AddressError:
            return []

    def _looked_up(self, task: asyncio.Task[list[Address]]) -> None:
        self._task = None
        if not task.cancelled() and not self._over:
            self.try_next(task.result())

    def try_next(self, addresses: list[Address]) -> None:
        """Try the addresses in turn, within one time limit."""
        for index, address in enumerate(addresses):
            upstream, code = begin_connect(address)
            if upstream is not None:
                self.go_on(upstream, code, addresses[index + 1 :])
                return
        self._done(None)

    def go_on(self, upstream: Socket, code: int, left: list[Address]) -> None:
        """Wait for a connect that was begun, with these addresses left to try."""
        if not code:
            self._done(upstream)
            return
        self._upstream, self._fd, self._left = upstream, upstream.fileno(), left
        self._core.watch.write(self._fd, self._connected)
        if self._limit is None:
            when = time.monotonic() + self._core.limits.connect_timeout_s
            self._limit = self._core.alarms.at(when, self._too_late)

    def _connected(self) -> None:
        upstream = self._take_upstream()
        assert upstream is not None
        if upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            upstream.close()
            self.try_next(self._left)
        else:
            self._done(upstream)

    def _too_late(self) -> None:
        self._close_upstream()
        self._done(None)

    def _take_upstream(self) -> Socket | None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._core.watch.stop_writing(self._fd)
        return upstream

    def _close_upstream(self) -> None:
        upstream = self._take_upstream()
        if upstream is not None:
            upstream.close()

    def _done(self, upstream: Socket | None) -> None:
        self._over = True
        if self._limit is not None:
            self._limit.cancel()
        self.proxy.dialled(self, upstream)

    def give_up(self) -> None:
        """The proxy stops."""
        if self._task is not None:
            self._task.cancel()
        self._close_upstream()
        self._done(None)
