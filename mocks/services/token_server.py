"""A server that gives tokens as server-sent events: `POST /tokens`, one event an item.

An item comes each `seconds / (items + 1)`, and after the last of such times an event `done`
(or `error`), so that a client that waits for it has waited for the whole answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from mocks.services.web import BadAsk, asked, body_of, filled, late, listening

if TYPE_CHECKING:
    from aiohttp import web

    from mocks.services.host import Hosted

__all__ = ["token_server"]


@contextlib.asynccontextmanager
async def token_server(hosted: Hosted) -> AsyncIterator[tuple[str, int]]:
    """Serve until the block ends; yields host and port."""
    from aiohttp import web

    async def tokens(request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            one = asked(await body_of(request))
        except BadAsk as exc:
            raise web.HTTPBadRequest(text=f"{exc}\n") from None
        fate = hosted.fate("tokens", one.name)
        with hosted.serving("tokens", one.name) as served:
            if fate.how == "error":
                await late(began_s, fate.delay_s)
                served.how = "error"
                raise web.HTTPServiceUnavailable(text="the model is out of order\n")
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            response.force_close()
            await response.prepare(request)
            gap_s = one.seconds / (one.items + 1)
            for i in range(one.items):
                await late(began_s, fate.delay_s + gap_s * (i + 1))
                if i == one.items // 2 and fate.how == "cut":
                    served.how = "cut"
                    if request.transport is not None:
                        request.transport.close()
                    return response
                data: dict[str, Any] = {"item": f"{one.tool}#{one.number}.{i}"}
                data |= {"worked_s": round(loop.time() - began_s, 6)}
                prefix = "data: " if fate.how != "malformed" else "dat\x00"
                await response.write(filled(data, prefix=prefix, suffix="\n\n"))
            await late(began_s, fate.delay_s + one.seconds)
            last: dict[str, Any] = {"error": one.error} if one.error else {"done": True}
            last |= {"worked_s": round(loop.time() - began_s, 6)}
            await response.write(filled(last, prefix="data: ", suffix="\n\n"))
            served.how = "malformed" if fate.how == "malformed" else "answered"
            await response.write_eof()
            return response

    async with listening({("POST", "/tokens"): tokens}, hosted.at("tokens")) as address:
        yield address
