"""The routes of Toxiproxy's API v2, and a few of our own beside them.

Statuses, bodies and wording are the Go server's, so that its clients work unchanged. Our own
routes (`/seed`, `/counters`, `/proxies/NAME/connections`) have paths that it does not know.
"""

from __future__ import annotations

import posixpath
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from harness import __version__
from harness.proxy.collection import Collection, bad_body
from harness.proxy.connection import Connection
from harness.proxy.core import Core
from harness.proxy.dice import Dice
from harness.proxy.errors import ApiError
from harness.proxy.gojson import dump, fields, parse
from harness.proxy.http1 import PLAIN, Request, Response, refusal
from harness.proxy.metrics import CONTENT_TYPE, metrics_text
from harness.proxy.proxy import Proxy
from harness.proxy.toxics import DIRECTIONS

__all__ = ["API_VERSION", "Api"]

# The release whose API this is; what comes after the plus says whose server it is.
API_VERSION = f"2.12.0+dagstorm.{__version__}"
_JSON = "application/json"
_ANY = "*"

_Handler = Callable[[Request, list[str]], Awaitable[Response]]


class Api:
    """Answers requests. `metrics` is whether `/metrics` is there."""

    def __init__(self, core: Core, collection: Collection, *, metrics: bool = True) -> None:
        self._core = core
        self._proxies = collection
        # A route is its segments, `?` for a name, and the verbs that it knows.
        self._routes: dict[tuple[str, ...], dict[str, _Handler]] = {
            ("version",): {"GET": self._version},
            ("reset",): {"POST": self._reset},
            ("populate",): {"POST": self._populate},
            ("proxies",): {"GET": self._index, "POST": self._create},
            ("proxies", "?"): {
                "GET": self._show,
                "POST": self._update,
                "PATCH": self._update,
                "DELETE": self._delete,
            },
            ("proxies", "?", "toxics"): {"GET": self._toxics, "POST": self._add_toxic},
            ("proxies", "?", "toxics", "?"): {
                "GET": self._show_toxic,
                "POST": self._update_toxic,
                "PATCH": self._update_toxic,
                "DELETE": self._remove_toxic,
            },
            ("proxies", "?", "connections"): {"GET": self._connections},
            ("counters",): {"GET": self._counters},
            ("seed",): {"GET": self._show_seed, "POST": self._set_seed},
        }
        if metrics:
            self._routes[("metrics",)] = {_ANY: self._metrics}

    async def handle(self, request: Request) -> Response:
        """Answer one request; whatever happens, there is an answer."""
        clean = _cleaned(request.path)
        if clean != request.path:
            return Response(301, b"", headers={"Location": clean})
        parts = request.path.split("/")[1:]
        verbs = self._verbs(parts)
        if verbs is None:
            return refusal(404, "404 page not found")
        handler = verbs.get(request.method) or verbs.get(_ANY)
        if handler is None:
            return Response(405)
        if request.headers.get("user-agent", "").startswith("Mozilla/"):
            response = refusal(403, "User agent not allowed")
        else:
            names = [unquote(part, errors="replace") for part in parts[1::2]]
            try:
                response = await handler(request, names)
            except ApiError as exc:
                response = _error(exc)
            except Exception as exc:
                response = _error(ApiError(500, f"dagstorm itself failed: {exc!r}"[:500]))
        response.headers["X-Toxiproxy-Request-Id"] = secrets.token_hex(10)
        return response

    def _verbs(self, parts: list[str]) -> dict[str, _Handler] | None:
        if "" in parts:
            return None
        for segments, verbs in self._routes.items():
            if len(segments) == len(parts) and all(
                wanted in ("?", given) for wanted, given in zip(segments, parts, strict=True)
            ):
                return verbs
        return None

    # Proxies.

    async def _index(self, _request: Request, _names: list[str]) -> Response:
        return _json(200, self._proxies.as_json())

    async def _create(self, request: Request, _names: list[str]) -> Response:
        proxy = await self._proxies.create(_body(request))
        return _json(201, proxy.as_json())

    async def _show(self, _request: Request, names: list[str]) -> Response:
        return _json(200, self._proxies.get(names[0]).as_json())

    async def _update(self, request: Request, names: list[str]) -> Response:
        proxy = await self._proxies.update(names[0], lambda: _body(request))
        return _json(200, proxy.as_json())

    async def _delete(self, _request: Request, names: list[str]) -> Response:
        await self._proxies.delete(names[0])
        return Response(204)

    async def _populate(self, request: Request, _names: list[str]) -> Response:
        made: list[Proxy] = []
        try:
            await self._proxies.populate(_body(request), made)
        except ApiError as exc:
            failed: dict[str, Any] = {"error": exc.text, "status": exc.status}
            return _json(exc.status, {**failed, "proxies": [p.as_json() for p in made] or None})
        return _json(201, {"proxies": [proxy.as_json() for proxy in made] or None})

    async def _reset(self, _request: Request, _names: list[str]) -> Response:
        await self._proxies.reset()
        return Response(204)

    # Toxics.

    async def _toxics(self, _request: Request, names: list[str]) -> Response:
        return _json(200, self._proxies.get(names[0]).chain.as_json())

    async def _add_toxic(self, request: Request, names: list[str]) -> Response:
        chain = self._proxies.get(names[0]).chain
        return _json(200, chain.add(_body(request)).as_json())

    async def _show_toxic(self, _request: Request, names: list[str]) -> Response:
        return _json(200, self._proxies.get(names[0]).chain.get(names[1]).as_json())

    async def _update_toxic(self, request: Request, names: list[str]) -> Response:
        chain = self._proxies.get(names[0]).chain
        return _json(200, chain.update(names[1], lambda: _body(request)).as_json())

    async def _remove_toxic(self, _request: Request, names: list[str]) -> Response:
        self._proxies.get(names[0]).chain.remove(names[1])
        return Response(204)

    # The server.

    async def _version(self, _request: Request, _names: list[str]) -> Response:
        text = f'{{"version": "{API_VERSION}"}}\n'
        return Response(200, text.encode(), "application/json;charset=utf-8")

    async def _metrics(self, _request: Request, _names: list[str]) -> Response:
        text = metrics_text(self._core, self._proxies.all())
        return Response(200, text.encode("utf-8", "replace"), CONTENT_TYPE)

    # Ours.

    async def _connections(self, _request: Request, names: list[str]) -> Response:
        connections = self._proxies.get(names[0]).connections
        ordered = sorted(connections, key=lambda one: one.opened_at)
        return _json(200, [_connection(one) for one in ordered])

    async def _counters(self, _request: Request, _names: list[str]) -> Response:
        found = {
            "connections": self._core.connections,
            "held_bytes": self._core.held_bytes,
            "proxies": {proxy.name: _counters(proxy) for proxy in self._proxies.all()},
        }
        return _json(200, found)

    async def _show_seed(self, _request: Request, _names: list[str]) -> Response:
        return _json(200, {"seed": self._core.dice.seed})

    async def _set_seed(self, request: Request, _names: list[str]) -> Response:
        with bad_body():
            given = fields(_body(request), {"seed": "int"}, "", "Seed")
        if "seed" not in given:
            raise ApiError(400, "missing required field: seed")
        self._core.dice = Dice(given["seed"])
        for proxy in self._proxies.all():
            proxy.count_again()
        return _json(200, {"seed": self._core.dice.seed})


def _body(request: Request) -> Any:
    with bad_body():
        return parse(request.body)


def _json(status: int, value: Any) -> Response:
    return Response(status, dump(value), _JSON)


def _error(exc: ApiError) -> Response:
    response = refusal(exc.status, dump({"error": exc.text, "status": exc.status}).decode())
    response.content_type = PLAIN
    return response


def _cleaned(path: str) -> str:
    if not path.startswith("/"):
        path = "/" + path
    clean = posixpath.normpath(path.replace("//", "/") if path.startswith("//") else path)
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _counters(proxy: Proxy) -> dict[str, Any]:
    found: dict[str, Any] = {
        "open": len(proxy.connections),
        "accepted": proxy.accepted,
        "refused": proxy.refused,
        "upstream_failed": proxy.failed,
    }
    for first, direction in enumerate(DIRECTIONS):
        received, sent = proxy.totals[2 * first : 2 * first + 2]
        links = [connection.links[direction] for connection in proxy.connections]
        found[direction] = {
            "received_bytes": received + sum(link.received for link in links),
            "sent_bytes": sent + sum(link.sent for link in links),
            "held_bytes": sum(link.held_bytes for link in links),
        }
    return found


def _connection(one: Connection) -> dict[str, Any]:
    links = {
        direction: {
            "received_bytes": link.received,
            "sent_bytes": link.sent,
            "held_bytes": link.held_bytes,
            "dropped_bytes": link.dropped_bytes,
            "toxics": [stage.toxic.name for stage in link.stages if stage.active],
            "ended": link.done,
        }
        for direction, link in one.links.items()
    }
    age_ms = round((time.monotonic() - one.opened_at) * 1000)
    return {"number": one.number, "client": one.client, "age_ms": age_ms, **links}
