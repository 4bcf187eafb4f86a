"""A client, its upstream, and the two links between them, from the first byte to the last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from harness.proxy.core import Core, Labels
from harness.proxy.link import Link
from harness.proxy.sockets import Socket, drain, reset_on_close
from harness.proxy.toxics import Toxic

if TYPE_CHECKING:
    from harness.proxy.proxy import Proxy

__all__ = ["Connection"]


class Connection:
    """Two sockets and their links.

    Attributes:
        number: counted on its proxy from 1; what the dice know the connection by.
        over: a toxic or a broken socket has ended it; no half-close from now on.
        labels: what its bytes are counted under.
    """

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
        self._peer = peer
        self.opened_at = time.monotonic()
        self.over = self.closed = False
        self.labels: Labels = proxy.labels
        up = self.up = Link(self, "upstream", client, upstream)
        down = self.down = Link(self, "downstream", upstream, client)
        up.other, down.other = down, up

    @property
    def links(self) -> dict[str, Link]:
        """The links by their direction."""
        return {"upstream": self.up, "downstream": self.down}

    def start(self, chains: dict[str, list[Toxic]]) -> None:
        self.up.start(chains["upstream"])
        if not self.closed:
            self.down.start(chains["downstream"])

    @property
    def client(self) -> str:
        """The client's address."""
        host, port = self._peer[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def figures(self) -> tuple[int, int, int, int]:
        """Bytes so far: what the upstream link received and sent, then the downstream one."""
        up, down = self.up, self.down
        return up.received, up.sent, down.received, down.sent

    def close(self, *, reset: bool = False) -> None:
        """Close both sockets, with RST if asked to; what is held is lost. May be called again."""
        if self.closed:
            return
        self.closed = True
        up, down = self.up, self.down
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
