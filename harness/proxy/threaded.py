"""The proxy server in a thread of its own, for whoever has no event loop to lend."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from harness.kernel.errors import HarnessFault
from harness.proxy.limits import Limits
from harness.proxy.loop import new_loop
from harness.proxy.server import ProxyServer

__all__ = ["proxy_in_thread"]

_STOP_LIMIT_S = 10.0


@contextlib.contextmanager
def proxy_in_thread(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    seed: int | None = None,
    metrics: bool = True,
    limits: Limits | None = None,
) -> Iterator[ProxyServer]:
    """Run a `ProxyServer` beside the calling thread; talk to it over its `url`.

    After the block nothing listens, no connection is open and the thread has ended.

    Raises:
        harness.kernel.errors.EnvironmentFault: the address cannot be listened on.
        harness.kernel.errors.HarnessFault: the server did not stop within 10 s.
    """
    server = ProxyServer(host, port, seed=seed, metrics=metrics, limits=limits)
    up = threading.Event()
    failed: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with server:
            running.append((asyncio.get_running_loop(), stop))
            up.set()
            await stop.wait()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(serve())
        except BaseException as exc:
            failed.append(exc)
            if not isinstance(exc, Exception):
                raise
        finally:
            up.set()

    thread = threading.Thread(target=main, name="dagstorm-proxy", daemon=True)
    thread.start()
    up.wait()
    if not running:
        thread.join()
        raise failed[0]
    try:
        yield server
    finally:
        loop, stop = running[0]
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(_STOP_LIMIT_S)
        if thread.is_alive():
            raise HarnessFault(f"the proxy did not stop within {_STOP_LIMIT_S:g} s")
