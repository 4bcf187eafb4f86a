"""The harness's way to a Toxiproxy server, the embedded one or the user's own.

One small client of its own and not the one on PyPI, because that keeps host and port in a
class shared by the whole process (a second server moves the first), has no time limits,
passes the server's errors (500, 503, 403) on as if they were answers, and honours HTTP_PROXY
even for loopback. Here a client has its own base URL and time limit, every error has a type,
and values that crash or hang the Go server are refused before they reach it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from harness.kernel.errors import EnvironmentFault, InputError
from harness.proxy.danger import danger_of

__all__ = [
    "AlreadyExists",
    "BadRequest",
    "NotFound",
    "Proxy",
    "ServerFailed",
    "Toxic",
    "Toxiproxy",
    "ToxiproxyError",
    "Unreachable",
    "ValueRefused",
    "network",
]

URL_VARIABLE = "TOXIPROXY_URL"
_ANSWER_BYTES_MAX = 64 << 20


class ToxiproxyError(EnvironmentFault):
    """The server did not do what it was asked for.

    Attributes:
        status: the HTTP status, or None if there was no answer.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class NotFound(ToxiproxyError):
    """404: no such proxy, toxic or route."""


class AlreadyExists(ToxiproxyError):
    """409: the name is taken."""


class BadRequest(ToxiproxyError):
    """400: the server does not understand what was asked for."""


class ServerFailed(ToxiproxyError):
    """Any other status: a port is taken, the server hangs (503), or no Toxiproxy is there."""


class Unreachable(ToxiproxyError):
    """No answer: nothing listens there, or not within the time limit."""


class ValueRefused(InputError):
    """An attribute value that is known to crash or hang the Go server; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Toxic:
    """A toxic as the server has it."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy as the server has it. `listen` is where to connect to while it is enabled."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[Toxic, ...] = ()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`; a wildcard host is given as loopback."""
        host, _, port = self.listen.rpartition(":")
        host = host.strip("[]")
        return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)


class Toxiproxy:
    """A client of one server.

    Args:
        url: the server's base URL, such as "http://127.0.0.1:8474".
        timeout_s: the limit of each connect, send and read.
        guarded: refuse values that crash or hang the Go server; the embedded one takes all.

    Each call is a connection of its own, so a client may be used from any thread. Every
    method raises a `ToxiproxyError` when the server does not do what it was asked for.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, guarded: bool = True) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme != "http" or not parts.hostname or parts.query or port == -1:
            raise InputError(
                f"expected a URL such as http://127.0.0.1:8474 for Toxiproxy, got {url!r}"
            )
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self.guarded = guarded
        self._host, self._port = parts.hostname, port or 8474
        self._prefix = parts.path.rstrip("/")

    def __repr__(self) -> str:
        return f"Toxiproxy({self.url!r})"

    # The server.

    def version(self) -> str:
        return str(_of(self._object("GET", "/version"), "version", ""))

    def reset(self) -> None:
        """Enable every proxy and remove all toxics."""
        self._call("POST", "/reset")

    def metrics(self) -> str:
        """Return the Prometheus text; NotFound where the server was started without."""
        return self._call("GET", "/metrics").decode("utf-8", "replace")

    # Proxies.

    def proxies(self) -> dict[str, Proxy]:
        return {name: _proxy(one) for name, one in self._object("GET", "/proxies").items()}

    def proxy(self, name: str) -> Proxy:
        return _proxy(self._object("GET", _path(name)))

    def create(
        self, name: str, upstream: str, *, listen: str = "127.0.0.1:0", enabled: bool = True
    ) -> Proxy:
        body = {"name": name, "listen": listen, "upstream": upstream, "enabled": enabled}
        return _proxy(self._object("POST", "/proxies", body))

    def populate(self, proxies: Sequence[Mapping[str, Any]]) -> list[Proxy]:
        """Create or replace several proxies, given by `name`, `upstream`, `listen`, `enabled`."""
        answer = self._object("POST", "/populate", [dict(one) for one in proxies])
        return [_proxy(one) for one in _of(answer, "proxies", None) or ()]

    def update(
        self,
        name: str,
        *,
        listen: str | None = None,
        upstream: str | None = None,
        enabled: bool | None = None,
    ) -> Proxy:
        """Change what is given. The old verb, POST: releases before 2.6 know no PATCH."""
        given = {"listen": listen, "upstream": upstream, "enabled": enabled}
        body = {key: value for key, value in given.items() if value is not None}
        return _proxy(self._object("POST", _path(name), body))

    def delete(self, name: str) -> None:
        self._call("DELETE", _path(name))

    # Toxics.

    def toxics(self, proxy: str) -> list[Toxic]:
        answer = self._json("GET", _path(proxy, "toxics"))
        if not isinstance(answer, list):
            raise ServerFailed(f"{self.url}: expected a list of toxics, got {answer!r:.200}", 200)
        return [_toxic(one) for one in answer]

    def add_toxic(
        self,
        proxy: str,
        type: str,
        *,
        name: str | None = None,
        stream: str = "downstream",
        toxicity: float = 1.0,
        attributes: Mapping[str, int | float] | None = None,
    ) -> Toxic:
        """Add a toxic to a proxy and its open connections.

        Raises:
            ValueRefused: the attributes would crash or hang the Go server.
        """
        attributes = dict(attributes or {})
        self._guard(type, attributes)
        body: dict[str, Any] = {"type": type, "stream": stream, "toxicity": toxicity}
        body["attributes"] = attributes
        if name is not None:
            body["name"] = name
        return _toxic(self._object("POST", _path(proxy, "toxics"), body))

    def update_toxic(
        self,
        proxy: str,
        name: str,
        *,
        toxicity: float | None = None,
        attributes: Mapping[str, int | float] | None = None,
    ) -> Toxic:
        """Change what is given; the rest keeps its value."""
        body: dict[str, Any] = {}
        if toxicity is not None:
            body["toxicity"] = toxicity
        if attributes is not None:
            if self.guarded:
                present = _toxic(self._object("GET", _path(proxy, "toxics", name)))
                self._guard(present.type, {**present.attributes, **attributes})
            body["attributes"] = dict(attributes)
        return _toxic(self._object("POST", _path(proxy, "toxics", name), body))

    def remove_toxic(self, proxy: str, name: str) -> None:
        self._call("DELETE", _path(proxy, "toxics", name))

    # For the time of a block.

    @contextlib.contextmanager
    def toxic(self, proxy: str, type: str, **how: Any) -> Iterator[Toxic]:
        """Have a toxic in force within the block; `how` as for `add_toxic`.

        It is not an error if the toxic, or its proxy, is gone at the end.
        """
        added = self.add_toxic(proxy, type, **how)
        try:
            yield added
        finally:
            with contextlib.suppress(NotFound):
                self.remove_toxic(proxy, added.name)

    @contextlib.contextmanager
    def down(self, proxy: str) -> Iterator[None]:
        """Have a proxy disabled within the block.

        Raises:
            ServerFailed: it does not listen again afterwards (its port was taken).
        """
        self.update(proxy, enabled=False)
        try:
            yield
        finally:
            if not self.update(proxy, enabled=True).enabled:
                raise ServerFailed(f"{self.url}: proxy {proxy!r} did not come up again", 200)

    def _guard(self, type: str, attributes: Mapping[str, int | float]) -> None:
        why = danger_of(type, attributes) if self.guarded else None
        if why is not None:
            raise ValueRefused(f"toxic {type}: {why}")

    def _object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self._json(method, path, body)
        if not isinstance(answer, dict):
            raise ServerFailed(f"{self.url}{path}: expected an object, got {answer!r:.200}", 200)
        return answer

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        data = self._call(method, path, body)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise ServerFailed(
                f"{self.url}{path}: expected JSON, got {data[:100]!r}; is it a Toxiproxy?", 200
            ) from None

    def _call(self, method: str, path: str, body: Any = None) -> bytes:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self.timeout_s)
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if sent is not None else {}
        try:
            connection.request(method, self._prefix + path, sent, headers)
            response = connection.getresponse()
            data = response.read(_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as exc:
            what = str(exc) or type(exc).__name__
            raise Unreachable(
                f"no answer from Toxiproxy at {self.url} to {method} {path}: {what}"
            ) from exc
        finally:
            connection.close()
        if 200 <= response.status < 300:
            return data
        kinds = {400: BadRequest, 404: NotFound, 409: AlreadyExists}
        kind: type[ToxiproxyError] = kinds.get(response.status, ServerFailed)
        raise kind(f"{self.url}: {method} {path}: {response.status}: {_why(data)}", response.status)


def _path(*names: str) -> str:
    # proxies/NAME/toxics/NAME: the names are quoted, what is between them is not in need of it.
    return "/proxies/" + "/".join(quote(name, safe="") for name in names)


def _why(data: bytes) -> str:
    text = data[:2000].decode("utf-8", "replace").strip()
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:200] or "no reason given"


def _of(answer: Any, key: str, default: Any) -> Any:
    return answer.get(key, default) if isinstance(answer, dict) else default


def _proxy(one: Any) -> Proxy:
    return Proxy(
        name=str(_of(one, "name", "")),
        listen=str(_of(one, "listen", "")),
        upstream=str(_of(one, "upstream", "")),
        enabled=bool(_of(one, "enabled", False)),
        toxics=tuple(_toxic(toxic) for toxic in _of(one, "toxics", None) or ()),
    )


def _toxic(one: Any) -> Toxic:
    return Toxic(
        name=str(_of(one, "name", "")),
        type=str(_of(one, "type", "")),
        stream=str(_of(one, "stream", "downstream")),
        toxicity=float(_of(one, "toxicity", 1.0)),
        attributes=dict(_of(one, "attributes", None) or {}),
    )


@contextlib.contextmanager
def network(*, seed: int | None = None, timeout_s: float = 5.0) -> Iterator[Toxiproxy]:
    """A server to make faults with: the user's, if TOXIPROXY_URL names one, else an own one.

    The user's server is not reset and not stopped: what was made there should be deleted.

    Raises:
        Unreachable: TOXIPROXY_URL names a server that does not answer.
        harness.kernel.errors.InputError: it is no URL.
    """
    url = os.environ.get(URL_VARIABLE)
    if url:
        client = Toxiproxy(url, timeout_s=timeout_s)
        client.version()
        yield client
        return
    from harness.proxy.threaded import proxy_in_thread

    with proxy_in_thread(seed=seed) as server:
        yield Toxiproxy(server.url, timeout_s=timeout_s, guarded=False)
