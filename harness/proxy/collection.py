"""All proxies of one server, by name, and what the API does to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from harness.proxy.core import Core
from harness.proxy.errors import PROXY_EXISTS, PROXY_NOT_FOUND, ApiError
from harness.proxy.gojson import BodyError, fields
from harness.proxy.proxy import Proxy

__all__ = ["Collection", "bad_body"]

_PROXY = {"name": "string", "listen": "string", "upstream": "string", "enabled": "bool"}
_UPDATED = {**_PROXY, "duration_ms": "int"}


@contextlib.contextmanager
def bad_body() -> Iterator[None]:
    """Turn what is wrong with a body into the answer that says so."""
    try:
        yield
    except BodyError as exc:
        raise ApiError(400, f"bad request body: {exc}") from None


class Collection:
    """The proxies. Whatever may wait for a host name is done one request at a time."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._proxies: dict[str, Proxy] = {}
        self._one_at_a_time = asyncio.Lock()

    def all(self) -> list[Proxy]:
        return list(self._proxies.values())

    def get(self, name: str) -> Proxy:
        try:
            return self._proxies[name]
        except KeyError:
            raise ApiError(*PROXY_NOT_FOUND) from None

    def as_json(self) -> dict[str, Any]:
        return {name: self._proxies[name].as_json() for name in sorted(self._proxies)}

    async def create(self, value: Any) -> Proxy:
        with bad_body():
            given = fields(value, _PROXY, "Proxy", "toxiproxy.Proxy")
        for needed in ("name", "upstream"):
            if not given.get(needed):
                raise ApiError(400, f"missing required field: {needed}")
        async with self._one_at_a_time:
            if given["name"] in self._proxies:
                raise ApiError(*PROXY_EXISTS)
            proxy = self._new(given)
            if given.get("enabled", True):
                await proxy.start()
            self._proxies[proxy.name] = proxy
        return proxy

    def _new(self, given: dict[str, Any]) -> Proxy:
        most = self._core.limits.proxies_max
        if len(self._proxies) >= most and given["name"] not in self._proxies:
            raise ApiError(507, f"too many proxies: this server has {most} at most")
        return Proxy(self._core, given["name"], given.get("listen", ""), given["upstream"])

    async def update(self, name: str, value: Callable[[], Any]) -> Proxy:
        """Change addresses or `enabled`; other addresses drop the connections, not the toxics."""
        async with self._one_at_a_time:
            proxy = self.get(name)
            with bad_body():
                given = fields(value(), _UPDATED, "Proxy", "toxiproxy.Proxy")
            enabled = given.get("enabled", proxy.enabled)
            listen = given.get("listen", proxy.listen)
            upstream = given.get("upstream", proxy.upstream)
            if ("listen" in given or "upstream" in given) and await proxy.differs(listen, upstream):
                proxy.stop()
                proxy.listen, proxy.upstream = listen, upstream
            if enabled and not proxy.enabled:
                await proxy.start()
            elif not enabled and proxy.enabled:
                proxy.stop()
            if not enabled and given.get("duration_ms") is not None:
                proxy.up_again_after(given["duration_ms"])
        return proxy

    async def delete(self, name: str) -> None:
        async with self._one_at_a_time:
            proxy = self.get(name)
            del self._proxies[name]
            _end(proxy)

    async def populate(self, value: Any, made: list[Proxy]) -> None:
        """Create or replace a list of proxies, in order, up to the first that fails.

        Args:
            value: the parsed body.
            made: where those go that are there afterwards, also when one fails.
        """
        wanted: list[dict[str, Any]] = []
        with bad_body():
            if value is not None and (not isinstance(value, list)):
                fields(value, {}, "", "[]toxiproxy.Proxy")
                raise BodyError(
                    "json: cannot unmarshal object into Go value of type []toxiproxy.Proxy"
                )
            for one in value or ():
                wanted.append(fields(one, _PROXY, "Proxy", "toxiproxy.Proxy"))
        for index, given in enumerate(wanted, 1):
            for needed in ("name", "upstream"):
                if not given.get(needed):
                    raise ApiError(400, f"missing required field: {needed} at proxy {index}")
        async with self._one_at_a_time:
            for given in wanted:
                made.append(await self._replace(given))

    async def _replace(self, given: dict[str, Any]) -> Proxy:
        proxy = self._new(given)
        there = self._proxies.get(proxy.name)
        if there is not None:
            if not await there.differs(proxy.listen, proxy.upstream):
                return there
            there.stop()
        if given.get("enabled", True):
            await proxy.start()
        if there is not None:
            there.chain.clear()
        self._proxies[proxy.name] = proxy
        return proxy

    async def reset(self) -> None:
        """Start every proxy and remove all toxics; the first that cannot start ends it."""
        async with self._one_at_a_time:
            for proxy in self.all():
                await proxy.start()
                proxy.chain.clear()

    def close(self) -> None:
        for proxy in self.all():
            _end(proxy)
        self._proxies.clear()


def _end(proxy: Proxy) -> None:
    # In this order: removed first, the toxics would let go what they hold.
    proxy.stop()
    proxy.chain.clear()
