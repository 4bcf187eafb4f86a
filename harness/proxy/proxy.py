"""One proxy: it listens, dials its upstream for each client, and keeps the open connections."""

from __future__ import annotations

import errno
import socket
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
from harness.proxy.connection import Connection
from harness.proxy.core import Core, Labels
from harness.proxy.dial import Dial, without_lookup
from harness.proxy.errors import ApiError
from harness.proxy.link import Link
from harness.proxy.sockets import Socket, accept, begin_connect, drain, listen, reset_on_close

__all__ = ["Proxy"]

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Proxy:
    """A listener with an upstream.

    Attributes:
        listen: the address it listens on, or, while disabled, the text that it was given.
        number: the newest connection's, counted from 1, or from the last new seed.
        accepted: connections so far.
        refused: accepted and reset, because the server has as many as it may.
        failed: accepted and closed, because upstream could not be reached.
        totals: bytes of the connections that have ended, as in `Connection.figures`.
        labels: what the bytes of a connection made now are counted under.
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
        self.totals = [0, 0, 0, 0]
        self.labels: Labels = (listen, name, upstream)
        self._listener: socket.socket | None = None
        self._family = 0
        self._dials: set[Dial] = set()
        self._at_once, self._accepted_in = 1, -2
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
        try:
            listener = listen(address)
        except OSError as exc:
            raise ApiError(500, bind_error(str(address), exc)) from None
        self._stay_down()
        self._listener, self._family = listener, int(address.family)
        self.listen = name_of(listener)
        self.labels = (self.listen, self.name, self.upstream)
        self._fixed = without_lookup(self.upstream)
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
        listener, core, watch = self._listener, self.core, self.core.watch
        if listener is None:
            return
        # One, and more only where the last turn had some left too: asking in vain is not free.
        crowded = watch.turns == self._accepted_in + 1
        most = min(2 * self._at_once, core.limits.accepts_per_turn_max) if crowded else 1
        self._at_once, self._accepted_in = most, watch.turns
        for _ in range(most):
            try:
                client, peer = accept(listener, self._family)
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
                reset_on_close(client)
                client.close()
                continue
            core.connections += 1
            self._serve(client, peer)

    def _serve(self, client: Socket, peer: tuple[Any, ...]) -> None:
        """Connect a client to upstream: at once, or when a dial has got through."""
        fixed, upstream, code = self._fixed, None, 0
        if fixed:
            upstream, code = begin_connect(fixed[0])
            if upstream is not None and not code:
                self._open(self.number, client, peer, upstream)
                return
        dial = Dial(self, client, peer, self.number)
        self._dials.add(dial)
        if fixed is None:
            dial.look_up()
        elif upstream is None:
            dial.try_next(fixed[1:])
        else:
            dial.go_on(upstream, code, fixed[1:])

    def _open(self, number: int, client: Socket, peer: tuple[Any, ...], upstream: Socket) -> None:
        connection = Connection(self, number, client, peer, upstream)
        self.connections.add(connection)
        connection.start(self.chain.working)

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

    def dialled(self, dial: Dial, upstream: Socket | None) -> None:
        """A dial has ended, with a socket or without one."""
        self._dials.discard(dial)
        if upstream is not None:
            self._open(dial.number, dial.client, dial.peer, upstream)
            return
        self.failed += 1
        self.core.connections -= 1
        drain(dial.client, self.core.view)
        dial.client.close()

    def forget(self, connection: Connection) -> None:
        """A connection has closed itself."""
        if connection in self.connections:
            self.connections.remove(connection)
            self.core.connections -= 1
            totals = self.totals
            for index, figure in enumerate(connection.figures()):
                totals[index] += figure
