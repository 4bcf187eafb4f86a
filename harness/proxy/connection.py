"""A client, its upstream, and what passes between them, from the first byte to the last.

Most connections never meet a toxic, and most of a short one's price is what is made for it: a
connection passes bytes on by itself, and makes its two links when one is asked for, when an end
does not take all at once, or when a socket breaks.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from harness.proxy.core import Core, Labels
from harness.proxy.link import Link
from harness.proxy.sockets import Socket, drain, reset_on_close
from harness.proxy.toxics import DIRECTIONS, Toxic

if TYPE_CHECKING:
    from harness.proxy.proxy import Proxy

__all__ = ["Connection"]


# The ends by number: what comes from the client goes the first of the directions.
_CLIENT, _UPSTREAM = 0, 1


class Connection:
    """Two sockets, and what passes between them.

    Attributes:
        number: counted on its proxy from 1; what the dice know the connection by.
        over: a toxic or a broken socket has ended it; no half-close from now on.
        labels: what its bytes are counted under.
    """

    __slots__ = (
        "_client",
        "_down_bytes",
        "_ended",
        "_links",
        "_peer",
        "_up_bytes",
        "_upstream",
        "closed",
        "core",
        "labels",
        "number",
        "opened_at",
        "over",
        "proxy",
    )

    def __init__(
        self,
        proxy: Proxy,
        number: int,
        client: Socket,
        peer: tuple[Any, ...],
        upstream: Socket,
    ) -> None:
        self.proxy = proxy
        self.core: Core = proxy.core
        self.number = number
        self._client, self._peer, self._upstream = client, peer, upstream
        self.opened_at = time.monotonic()
        self.over = self.closed = False
        self.labels: Labels = proxy.labels
        self._up_bytes = self._down_bytes = 0
        self._ended: int | None = None
        self._links: tuple[Link, Link] | None = None

    @property
    def links(self) -> dict[str, Link]:
        """The links by their direction."""
        up, down = self._made()
        return {DIRECTIONS[_CLIENT]: up, DIRECTIONS[_UPSTREAM]: down}

    def _made(self) -> tuple[Link, Link]:
        """Make the links, which go on from here."""
        if self._links is None:
            client, upstream = self._client, self._upstream
            up = Link(self, DIRECTIONS[_CLIENT], client, upstream)
            down = Link(self, DIRECTIONS[_UPSTREAM], upstream, client)
            up.other, down.other = down, up
            self._links = (up, down)
            up.go_on(self._up_bytes, ended=self._ended == _CLIENT)
            down.go_on(self._down_bytes, ended=self._ended == _UPSTREAM)
        return self._links

    def start(self, chains: dict[str, list[Toxic]]) -> None:
        if chains["upstream"] or chains["downstream"]:
            for direction, link in self.links.items():
                if not self.closed:
                    link.start(chains[direction])
            return
        # Who connects mostly sends at once: look before asking to be told, it saves a turn.
        self._client_ready()
        if self._links is None:
            watch = self.core.watch
            if self._ended is None:
                watch.read(self._client.fileno(), self._client_ready)
            watch.read(self._upstream.fileno(), self._upstream_ready)

    def _client_ready(self) -> None:
        count = sent = 0
        view = self.core.view
        try:
            count = self._client.recv_into(view)
            if count:
                sent = self._upstream.send(view[:count])
        except OSError as exc:
            self._failed(_CLIENT, count, exc)
            return
        if not count:
            self._end(_CLIENT)
        elif sent == count:
            self._up_bytes += count
        else:
            self._made()[_CLIENT].read(view[:count], sent)

    def _upstream_ready(self) -> None:
        count = sent = 0
        view = self.core.view
        try:
            count = self._upstream.recv_into(view)
            if count:
                sent = self._client.send(view[:count])
        except OSError as exc:
            self._failed(_UPSTREAM, count, exc)
            return
        if not count:
            self._end(_UPSTREAM)
        elif sent == count:
            self._down_bytes += count
        else:
            self._made()[_UPSTREAM].read(view[:count], sent)

    def _failed(self, end: int, count: int, exc: OSError) -> None:
        """An end could not be read, or, if bytes were read from it, the other not written."""
        later = isinstance(exc, (BlockingIOError, InterruptedError))
        if count:
            self._made()[end].read(self.core.view[:count], 0 if later else None)
        elif not later:
            self._made()[end].source_over(broken=True)

    def _end(self, end: int) -> None:
        """An end has nothing more to send."""
        if self._ended is not None:
            self._close_ended()
            return
        self._ended = end
        source, dest = (
            (self._client, self._upstream) if end == _CLIENT else (self._upstream, self._client)
        )
        watch = self.core.watch
        if source.fileno() in watch.readers:
            watch.stop_reading(source.fileno())
        try:
            dest.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    @property
    def client(self) -> str:
        """The client's address."""
        host, port = self._peer[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def figures(self) -> tuple[int, int, int, int]:
        """Bytes so far: what the upstream link received and sent, then the downstream one."""
        if self._links is None:
            return self._up_bytes, self._up_bytes, self._down_bytes, self._down_bytes
        up, down = self._links
        return up.received, up.sent, down.received, down.sent

    def close(self, *, reset: bool = False) -> None:
        """Close both sockets, with RST if asked to; what is held is lost. May be called again."""
        if self.closed:
            return
        self.closed = True
        up, down = self._made()
        up.stop()
        down.stop()
        self.core.count(self.labels, self.figures())
        for link in (up, down):
            if reset:
                reset_on_close(link.source)
            elif not link.drained:
                drain(link.source, self.core.view)
            link.source.close()
        self.proxy.forget(self)

    def _close_ended(self) -> None:
        """Close both sockets: both ends have sent all they had, and all of it was passed on."""
        self.closed = True
        for one in (self._client, self._upstream):
            self.core.watch.forget(one.fileno())
            one.close()
        self.core.count(self.labels, self.figures())
        self.proxy.forget(self)
