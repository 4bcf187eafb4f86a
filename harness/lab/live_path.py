"""The way to the mock services in the live laboratory: straight, or through a fault proxy.

A unit whose plan has toxics gets proxies of its own for the time it is run, so that units
side by side do not feel each other's network.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.kernel.plan import Toxic
from harness.proxy.client import NotFound, Toxiproxy, network

__all__ = ["LivePath"]

# What the services behind `call` steps are called; events do not go through the proxy.
PROXIED = ("tool", "tokens", "kv")


class LivePath:
    """The addresses of the services, and a proxy before them once it is needed.

    Args:
        addresses: service -> host and port.
        seed: of what toxics draw, in a proxy of our own.
    """

    def __init__(self, addresses: Mapping[str, Sequence[Any]], seed: int) -> None:
        self.addresses = {name: list(address) for name, address in addresses.items()}
        self._seed = seed
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._client: Toxiproxy | None = None

    def close(self) -> None:
        """Stop the proxy, if one was started."""
        self._stack.close()

    def __enter__(self) -> LivePath:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @contextlib.contextmanager
    def through(self, toxics: Sequence[Toxic]) -> Iterator[dict[str, list[Any]]]:
        """Return the addresses to call the services at, with these toxics on the way.

        Raises:
            EnvironmentFault: if the proxy (or the one that TOXIPROXY_URL names) does not serve.
        """
        if not toxics:
            yield self.addresses
            return
        client = self._proxy()
        found = dict(self.addresses)
        made: list[str] = []
        try:
            for service in PROXIED:
                host, port = self.addresses[service]
                name = f"dagstorm-{os.getpid()}-{next(self._numbers)}-{service}"
                proxy = client.create(name, f"{host}:{port}")
                made.append(name)
                for toxic in toxics:
                    client.add_toxic(
                        name,
                        toxic.type,
                        name=f"{toxic.type}-{next(self._numbers)}",
                        stream=toxic.stream,
                        attributes=toxic.attributes,
                    )
                found[service] = list(proxy.address)
            yield found
        finally:
            for name in made:
                with contextlib.suppress(NotFound):
                    client.delete(name)

    def _proxy(self) -> Toxiproxy:
        with self._lock:
            if self._client is None:
                self._client = self._stack.enter_context(network(seed=self._seed))
            return self._client
