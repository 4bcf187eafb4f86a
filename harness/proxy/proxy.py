"""One proxy: it listens, dials its upstream for each client, and keeps the open connections."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
import time
from typing import Any

from harness.proxy.address import (
    LOOPBACK,
    Address,
    AddressError,
    bind_error,
    literal,
    name_of,
    resolve,
    split,
)
from harness.proxy.alarms import Alarm
from harness.proxy.chain import Chain
from harness.proxy.core import Core
from harness.proxy.errors import ApiError
from harness.proxy.link import Connection, Link, drain
from harness.proxy.toxics import DIRECTIONS

__all__ = ["Proxy"]

_BACKLOG = 4096
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """A listener with an upstream.

    Attributes:
        listen: the address it listens on, or, while disabled, the text that it was given.
        number: the newest connection's, counted from 1, or from the last new seed.
        accepted: connections so far.
        refused: accepted and reset, because the server has as many as it may.
        failed: accepted and closed, because upstream could not be reached.
    """

    def __init__(self, core: Core, name: str, listen: str, upstream: str) -> None:
        self.core = core
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.enabled = self._accepting = False
        self.connections: set[Connection] = set()
        self.chain = Chain(core, self._links)
        self.number = self.accepted = self.refused = self.failed = 0
        self.totals = {direction: [0, 0] for direction in DIRECTIONS}
        self._listener: socket.socket | None = None
        self._dials: set[_Dial] = set()
        self._again: Alarm | None = None
        self._fixed: list[Address] | None = None

    def _links(self, direction: str) -> list[Link]:
        return [one.links[direction] for one in list(self.connections)]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            "toxics": self.chain.as_json(),
        }

    async def start(self) -> None:
        """Listen, if it does not yet.

        Raises:
            ApiError: the address is none, or cannot be listened on; status 500.
        """
        if self.enabled:
            return
        try:
            addresses = await resolve(self.listen or f"{LOOPBACK}:0", self._lookup_s)
        except AddressError as exc:
            raise ApiError(500, f"listen tcp: {exc}") from None
        self._bind(addresses[0])

    def _bind(self, address: Address) -> None:
        listener: socket.socket | None = None
        try:
            listener = socket.socket(address.family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setblocking(False)
            # What it accepts inherits this on Linux; elsewhere a dial sets it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.bind(address.sockaddr)
            listener.listen(_BACKLOG)
        except OSError as exc:
            if listener is not None:
                listener.close()
            raise ApiError(500, bind_error(str(address), exc)) from None
        self._stay_down()
        self._listener = listener
        self.listen = name_of(listener)
        self._fixed = _without_lookup(self.upstream)
        self.enabled = self._accepting = True
        self.core.watch.read(listener.fileno(), self._accept)

    def stop(self) -> None:
        """Stop listening, then close every connection; what they hold is lost."""
        self._stay_down()
        self.enabled = False
        if self._listener is not None:
            if self._accepting:
                self.core.watch.stop_reading(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for dial in list(self._dials):
            dial.give_up()
        for connection in list(self.connections):
            connection.close()

    def up_again_after(self, delay_ms: int) -> None:
        """Listen again after a while, unless the port is taken then."""

        def up() -> None:
            try:
                host, port = split(self.listen)
                address = literal(host or LOOPBACK, port)
                if address is not None and not self.enabled:
                    self._bind(address)
            except (ApiError, AddressError):
                pass

        self._stay_down()
        self._again = self.core.alarms.at(time.monotonic() + max(0, delay_ms) / 1000, up)

    def _stay_down(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    async def differs(self, listen: str, upstream: str) -> bool:
        """Would these addresses be other ones than the present ones? Port 0 always is.

        Raises:
            ApiError: `listen` is no address; status 500.
        """
        if upstream != self.upstream:
            return True
        if listen == self.listen and not (listen or ":0").endswith(":0"):
            return False
        try:
            wanted = await resolve(listen or f"{LOOPBACK}:0", self._lookup_s)
        except AddressError as exc:
            raise ApiError(500, f"listen tcp: {exc}") from None
        try:
            present = await resolve(self.listen or f"{LOOPBACK}:0", self._lookup_s)
        except AddressError:
            return True
        return wanted[0] != present[0] or wanted[0].port == 0

    def count_again(self) -> None:
        """Number the next connection 1, so that a seed's draws come again."""
        self.number = 0

    @property
    def _lookup_s(self) -> float:
        return self.core.limits.lookup_timeout_s

    def _accept(self) -> None:
        listener, core = self._listener, self.core
        for _ in range(core.limits.accepts_per_turn_max):
            if listener is None:
                return
            try:
                client, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(listener)
                return
            self.number += 1
            self.accepted += 1
            if core.connections >= core.limits.connections_max:
                self.refused += 1
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            core.connections += 1
            dial = _Dial(self, client, address, self.number)
            self._dials.add(dial)
            if self._fixed is not None:
                dial.try_next(self._fixed)
            else:
                dial.look_up()

    def _pause(self, listener: socket.socket) -> None:
        """The process is out of descriptors: some will be closed; asking at once only spins."""
        fd, watch = listener.fileno(), self.core.watch
        watch.stop_reading(fd)
        self._accepting = False

        def resume() -> None:
            if self._listener is listener:
                self._accepting = True
                watch.read(fd, self._accept)

        self.core.alarms.at(time.monotonic() + self.core.limits.accept_pause_s, resume)

    def dialled(self, dial: _Dial, upstream: socket.socket | None) -> None:
        """A dial has ended, with a socket or without one."""
        self._dials.discard(dial)
        if upstream is None:
            self.failed += 1
            self.core.connections -= 1
            drain(dial.client, self.core.view)
            dial.client.close()
            return
        connection = Connection(self, dial.number, dial.client, dial.peer, upstream)
        self.connections.add(connection)
        connection.start(self.chain.working)

    def forget(self, connection: Connection) -> None:
        """A connection has closed itself."""
        if connection in self.connections:
            self.connections.remove(connection)
            self.core.connections -= 1
            for direction, link in connection.links.items():
                self.totals[direction][0] += link.received
                self.totals[direction][1] += link.sent


class _Dial:
    """One client that waits for its upstream; nothing of it is read before that answers."""

    def __init__(
        self, proxy: Proxy, client: socket.socket, peer: tuple[Any, ...], number: int
    ) -> None:
        self.proxy, self.client, self.peer, self.number = proxy, client, peer, number
        self._left: list[Address] = []
        self._upstream: socket.socket | None = None
        self._fd = -1
        self._task: asyncio.Task[list[Address]] | None = None
        core = proxy.core
        self._limit: Alarm | None = None
        client.setblocking(False)
        if not sys.platform.startswith("linux"):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop, self._core = core.loop, core
        self._over = False

    def look_up(self) -> None:
        self._task = self._loop.create_task(self._resolve())
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
            try:
                upstream = socket.socket(address.family, socket.SOCK_STREAM)
            except OSError:
                break
            upstream.setblocking(False)
            try:
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                code = upstream.connect_ex(address.sockaddr)
                if code == errno.EINPROGRESS:
                    # On loopback the answer is there at once; asking again saves a turn.
                    code = upstream.connect_ex(address.sockaddr)
            except (OSError, OverflowError):
                code = errno.EINVAL
            if code in (0, errno.EISCONN):
                self._done(upstream)
                return
            if code in (errno.EINPROGRESS, errno.EALREADY):
                self._upstream, self._fd = upstream, upstream.fileno()
                self._left = addresses[index + 1 :]
                self._core.watch.write(self._fd, self._connected)
                if self._limit is None:
                    when = time.monotonic() + self._core.limits.connect_timeout_s
                    self._limit = self._core.alarms.at(when, self._too_late)
                return
            upstream.close()
        self._done(None)

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

    def _take_upstream(self) -> socket.socket | None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._core.watch.stop_writing(self._fd)
        return upstream

    def _close_upstream(self) -> None:
        upstream = self._take_upstream()
        if upstream is not None:
            upstream.close()

    def _done(self, upstream: socket.socket | None) -> None:
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


def _without_lookup(upstream: str) -> list[Address] | None:
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
