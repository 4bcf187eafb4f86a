"""The mock services, run for the time of a block: on a thread, with a loop of its own.

They end with the block, or else with the process: the thread is a daemon, nothing else is
started, and no port is listened on that the system did not choose or the caller did not name.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.kernel.errors import EnvironmentFault, HarnessFault
from mocks.services.collector import event_collector
from mocks.services.knobs import Fate, Knobs, fate_of
from mocks.services.kv_server import kv_server
from mocks.services.token_server import token_server
from mocks.services.tool_server import tool_server

__all__ = ["Hosted", "Served", "services"]

HOST = "127.0.0.1"
START_LIMIT_S = 10.0
STOP_LIMIT_S = 10.0
SERVED_MAX = 100_000
EVENTS_MAX = 100_000
NAMES_MAX = 100_000


@dataclass(slots=True)
class Served:
    """One request as the service saw it.

    Attributes:
        service: tool, tokens, kv or events.
        request: its name: run, tool and number of the call.
        how: "begun"; then "answered", "error", "malformed", "cut" (by the service), or "left" (the
            client went away before the answer was over).
    """

    service: str
    request: str
    how: str = "begun"


@dataclass(slots=True)
class Hosted:
    """The services while they run.

    Attributes:
        addresses: service (tool, tokens, kv, events) -> (host, port).
        served: what was asked of them, oldest first; at most so many are kept.
        events: what the event collector was given, as (type, data).
        open: connections that are open now.
        ended: (service, how it ended) -> requests, of all that there were.
        host, ports: where services listen; a service without a port takes a free one.
        counted: a request that comes again under the same name is another one, and has a fate
            of its own. Engines of the live laboratory name each call; other callers need not.
    """

    seed: int
    knobs: Knobs
    host: str = HOST
    ports: Mapping[str, int] = field(default_factory=dict)
    counted: bool = False
    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)
    served: deque[Served] = field(default_factory=lambda: deque(maxlen=SERVED_MAX))
    events: deque[tuple[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    rows: dict[str, Any] = field(default_factory=dict)
    open: int = 0
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def at(self, service: str) -> tuple[str, int]:
        """Return where a service is to listen."""
        return self.host, self.ports.get(service, 0)

    def fate(self, service: str, request: str) -> Fate:
        if self.counted:
            if len(self._seen) >= NAMES_MAX:
                self._seen.clear()
            self._seen[service, request] += 1
            request = f"{request}~{self._seen[service, request]}"
        return fate_of(self.knobs, self.seed, service, request)

    @contextlib.contextmanager
    def serving(self, service: str, request: str) -> Iterator[Served]:
        """Keep the account of one request: what the block does not say is "left"."""
        one = Served(service, request)
        self.served.append(one)
        self.open += 1
        try:
            yield one
        finally:
            self.open -= 1
            if one.how == "begun":
                one.how = "left"
            self.ended[service, one.how] += 1

    def as_json(self) -> dict[str, list[Any]]:
        """Return the addresses as a worker takes them."""
        return {name: [host, port] for name, (host, port) in self.addresses.items()}


SERVERS = {
    "tool": tool_server,
    "tokens": token_server,
    "kv": kv_server,
    "events": event_collector,
}


@contextlib.contextmanager
def services(
    *,
    seed: int = 0,
    knobs: Knobs | None = None,
    host: str = HOST,
    ports: Mapping[str, int] | None = None,
    counted: bool = False,
) -> Iterator[Hosted]:
    """Run all mock services beside the calling thread; on loopback, unless told otherwise.

    After the block nothing listens, no connection is open and the thread has ended.

    Args:
        ports: service (tool, tokens, kv, events) -> port; free ones where none is named.
        counted: see `Hosted`.

    Raises:
        EnvironmentFault: they cannot listen, or the library they are built on is missing.
        HarnessFault: they did not start or stop within 10 s.
    """
    hosted = Hosted(seed, knobs or Knobs(), host, ports or {}, counted)
    up = threading.Event()
    failed: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            for name, server in SERVERS.items():
                hosted.addresses[name] = await stack.enter_async_context(server(hosted))
            running.append((asyncio.get_running_loop(), stop))
            up.set()
            await stop.wait()

    def main() -> None:
        try:
            asyncio.run(serve())
        except Exception as exc:
            failed.append(exc)
        finally:
            up.set()

    thread = threading.Thread(target=main, name="dagstorm-services", daemon=True)
    thread.start()
    if not up.wait(START_LIMIT_S):
        raise HarnessFault(f"the mock services did not start within {START_LIMIT_S:g} s")
    if failed:
        raise EnvironmentFault(f"the mock services cannot run: {failed[0]}") from failed[0]
    try:
        yield hosted
    finally:
        loop, stop = running[0]
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(STOP_LIMIT_S)
        if thread.is_alive():
            raise HarnessFault(f"the mock services did not stop within {STOP_LIMIT_S:g} s")
