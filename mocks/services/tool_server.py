"""A tool behind HTTP: `POST /tool/NAME` with what is asked, one JSON object as the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from mocks.services.web import BadAsk, asked, body_of, filled, late, listening

if TYPE_CHECKING:
    from aiohttp import web

    from mocks.services.host import Hosted

__all__ = ["tool_server"]


@contextlib.asynccontextmanager
async def tool_server(hosted: Hosted) -> AsyncIterator[tuple[str, int]]:
    """Serve until the block ends; yields host and port."""
    from aiohttp import web

    async def call(request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            data = await body_of(request)
            one = asked({**data, "tool": request.match_info["name"]} if data else data)
        except BadAsk as exc:
            raise web.HTTPBadRequest(text=f"{exc}\n") from None
        fate = hosted.fate("tool", one.name)
        with hosted.serving("tool", one.name) as served:
            await late(began_s, fate.delay_s + one.seconds)
            if fate.how == "error":
                served.how = "error"
                raise web.HTTPServiceUnavailable(text="the tool is out of order\n")
            answer: dict[str, Any] = {"tool": one.tool, "number": one.number}
            answer |= {"error": one.error} if one.error else {"ok": True}
            body = filled({**answer, "worked_s": round(loop.time() - began_s, 6)})
            if fate.how == "malformed":
                body = body.replace(b"{", b"<")
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.content_length = len(body)
            response.force_close()
            await response.prepare(request)
            if fate.how == "cut":
                await response.write(body[:20])
                served.how = "cut"
                if request.transport is not None:
                    request.transport.close()
                return response
            await response.write(body)
            served.how = "malformed" if fate.how == "malformed" else "answered"
            await response.write_eof()
            return response

    async with listening({("POST", "/tool/{name}"): call}, hosted.at("tool")) as address:
        yield address
