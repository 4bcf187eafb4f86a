"""The event collector: `POST /events` takes one event, after so many seconds as it says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from mocks.services.web import BadAsk, asked, body_of, filled, late, listening

if TYPE_CHECKING:
    from aiohttp import web

    from mocks.services.host import Hosted

__all__ = ["event_collector"]


@contextlib.asynccontextmanager
async def event_collector(hosted: Hosted) -> AsyncIterator[tuple[str, int]]:
    """Serve until the block ends; yields host and port."""
    from aiohttp import web

    async def take(request: web.Request) -> web.Response:
        began_s = asyncio.get_running_loop().time()
        try:
            data = await body_of(request)
            one = asked(data)
            event = (str(data["type"]), data.get("data"))
        except (BadAsk, KeyError) as exc:
            raise web.HTTPBadRequest(text=f"expected an event with a type: {exc}\n") from None
        fate = hosted.fate("events", one.name)
        with hosted.serving("events", one.name) as served:
            await late(began_s, fate.delay_s + one.seconds)
            if fate.how in ("error", "cut"):
                served.how = "error"
                raise web.HTTPServiceUnavailable(text="the collector is out of order\n")
            hosted.events.append(event)
            served.how = "answered"
            body = filled({"ok": True})
            return web.Response(body=body, content_type="application/json")

    async with listening({("POST", "/events"): take}, hosted.at("events")) as address:
        yield address
