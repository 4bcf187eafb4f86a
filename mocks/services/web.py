"""What the HTTP services have in common: an aiohttp application on a port."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.kernel.steps import LIMIT_SECONDS

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["LIMIT_ITEMS", "MESSAGE_BYTES", "Asked", "BadAsk", "asked", "listening"]

BODY_BYTES_MAX = 64 * 1024
BACKLOG = 256
STOP_S = 0.2
# Each message of an answer is filled up to this, so that a rate or a limit in bytes means
# the same for all, and the same as in simulation.
MESSAGE_BYTES = 256
LIMIT_ITEMS = 10_000


class BadAsk(ValueError):
    """A request that is not what the service takes; the text says what it expected."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as all services take it: `name` tells it from all others."""

    name: str
    tool: str
    number: int
    seconds: float
    items: int
    error: str | None


def asked(data: Any) -> Asked:
    """Check what came in.

    Raises:
        BadAsk: saying what is wrong with it.
    """
    if not isinstance(data, Mapping):
        raise BadAsk("expected an object")
    number, seconds, items = data.get("number", 1), data.get("seconds", 0), data.get("chunks", 0)
    tool, error = data.get("tool", ""), data.get("error")
    if isinstance(number, bool) or not isinstance(number, int):
        raise BadAsk(f"number: expected a whole number, got {number!r}")
    if isinstance(items, bool) or not isinstance(items, int) or not 0 <= items <= LIMIT_ITEMS:
        raise BadAsk(f"chunks: expected a whole number from 0 to {LIMIT_ITEMS}, got {items!r}")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise BadAsk(f"seconds: expected a number, got {seconds!r}")
    if not 0 <= seconds <= LIMIT_SECONDS:
        raise BadAsk(f"seconds: expected 0 to {LIMIT_SECONDS:g}, got {seconds!r}")
    if not isinstance(tool, str) or not (error is None or isinstance(error, str)):
        raise BadAsk("tool and error: expected texts")
    name = f"{data.get('run', '')}/{tool}#{number}"
    return Asked(name, tool, number, float(seconds), items, error)


async def body_of(request: web.Request) -> Any:
    """Return a request's JSON. Raises `BadAsk`."""
    try:
        return json.loads(await request.text())
    except ValueError as exc:
        raise BadAsk(f"expected JSON: {exc}") from exc


def filled(data: Mapping[str, Any], *, prefix: str = "", suffix: str = "\n") -> bytes:
    """Return data as a line of JSON, filled up to the size of a message with blanks."""
    line = prefix + json.dumps(data, separators=(",", ":"))
    return (line.ljust(MESSAGE_BYTES - len(suffix)) + suffix).encode()


@contextlib.asynccontextmanager
async def listening(
    routes: Mapping[tuple[str, str], Any], at: tuple[str, int]
) -> AsyncIterator[tuple[str, int]]:
    """Serve (method, path) -> handler; a handler ends when its client goes away.

    Args:
        at: host and port to listen at, 0 for a free one.

    Raises:
        ImportError: aiohttp is not installed.
    """
    from aiohttp import web

    app = web.Application(client_max_size=BODY_BYTES_MAX)
    for (method, path), handler in routes.items():
        app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=STOP_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, *at, backlog=BACKLOG)
        await site.start()
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()


async def late(began_s: float, after_s: float) -> None:
    """Sleep until so long after `began_s` on the loop's clock: what took time is made up for."""
    await asyncio.sleep(max(0.0, began_s + after_s - asyncio.get_running_loop().time()))
