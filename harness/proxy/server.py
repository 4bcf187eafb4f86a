"""The proxy server: its API's listener and everything behind it, from start to close."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from harness.kernel.errors import EnvironmentFault
from harness.proxy.api import Api
from harness.proxy.collection import Collection
from harness.proxy.core import Core
from harness.proxy.http1 import HttpServer
from harness.proxy.limits import Limits

__all__ = ["ProxyServer"]


class ProxyServer:
    """Toxiproxy's API v2 on this event loop, as an async context manager.

    Args:
        host: where the API listens: loopback only, unless told otherwise.
        port: its port; 0 takes a free one (read it off `url`).
        seed: what toxicity, jitter and all other chance follow from; None takes a fresh one.
        metrics: whether `/metrics` is there.

    After the `async with` block nothing listens and no connection is open.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        seed: int | None = None,
        metrics: bool = True,
        limits: Limits | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._seed = seed
        self._metrics = metrics
        self._limits = limits or Limits()
        self._core: Core | None = None
        self._proxies: Collection | None = None
        self._http: HttpServer | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def seed(self) -> int:
        if self._core is None:
            raise RuntimeError("the proxy server is not running")
        return self._core.dice.seed

    async def start(self) -> None:
        """Listen.

        Raises:
            EnvironmentFault: the address cannot be listened on; nothing is left open.
        """
        core = Core(asyncio.get_running_loop(), self._seed, self._limits)
        proxies = Collection(core)
        http = HttpServer(Api(core, proxies, metrics=self._metrics).handle, self._limits)
        listener: asyncio.Server | None = None
        try:
            # In two steps: whoever is cancelled in the second has something to close.
            listener = await asyncio.start_server(
                http.connected, self.host, self.port, start_serving=False
            )
            await listener.start_serving()
        except BaseException as exc:
            if listener is not None:
                listener.close()
            core.close()
            if not isinstance(exc, (OSError, OverflowError, UnicodeError)):
                raise
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            raise EnvironmentFault(
                f"cannot listen on {self.host}:{self.port}: {reason}; name another --host or --port"
            ) from None
        self._core, self._proxies, self._http, self._listener = core, proxies, http, listener
        bound: socket.socket = listener.sockets[0]
        self.port = bound.getsockname()[1]

    async def populate(self, value: Any) -> None:
        """Create proxies from what a configuration file holds (a parsed /populate body).

        Raises:
            harness.proxy.errors.ApiError: one cannot be made; the earlier ones are there.
        """
        if self._proxies is None:
            raise RuntimeError("the proxy server is not running")
        await self._proxies.populate(value, [])

    async def close(self) -> None:
        """Stop listening, close every connection. May be called again."""
        if self._listener is None:
            return
        assert self._proxies is not None and self._http is not None and self._core is not None
        listener, self._listener = self._listener, None
        listener.close()
        await self._http.close()
        self._proxies.close()
        self._core.close()

    async def __aenter__(self) -> ProxyServer:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()
