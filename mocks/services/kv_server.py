"""A key-value store over TCP: a line of JSON asks, a line of JSON answers.

`{"op": "put", "key": …, "value": …}`, `{"op": "get", "key": …}`, `{"op": "near", "vector": […]}`
(the keys whose values are vectors, nearest by angle first), each with `seconds` that it is to
take. A connection is one client's for as long as it lasts: what holds it, holds a resource of the
store's, and the store sees when it is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from mocks.services.web import BadAsk, asked, filled, late

if TYPE_CHECKING:
    from mocks.services.host import Hosted

__all__ = ["kv_server"]

LINE_BYTES_MAX = 64 * 1024
ROWS_MAX = 100_000


@contextlib.asynccontextmanager
async def kv_server(hosted: Hosted) -> AsyncIterator[tuple[str, int]]:
    """Serve until the block ends; yields host and port."""
    tasks: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await _talk(hosted, reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(client, *hosted.at("kv"), limit=LINE_BYTES_MAX)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield host, port
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _talk(hosted: Hosted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # longer than the limit
            writer.write(filled({"refused": f"a line of more than {LINE_BYTES_MAX} bytes"}))
            return
        if not line:
            return
        began_s = loop.time()
        try:
            data = json.loads(line)
            one = asked(data)
        except (ValueError, BadAsk) as exc:
            writer.write(filled({"refused": str(exc)[:150]}))
            continue
        fate = hosted.fate("kv", one.name)
        with hosted.serving("kv", one.name) as served:
            # The client's going away must be seen while the answer is being worked out.
            gone = asyncio.ensure_future(reader.read(1))
            work = asyncio.ensure_future(late(began_s, fate.delay_s + one.seconds))
            try:
                await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    return
            finally:
                for task in (gone, work):
                    task.cancel()
                await asyncio.gather(gone, work, return_exceptions=True)
            answer = {"error": one.error} if one.error else _answer(hosted.rows, data)
            if fate.how == "error":
                answer = {"refused": "the store is out of order"}
            said = filled({**answer, "worked_s": round(loop.time() - began_s, 6)})
            if fate.how == "malformed":
                said = said.replace(b"{", b"<")
            writer.write(said[:20] if fate.how == "cut" else said)
            await writer.drain()
            served.how = "answered" if fate.how == "answer" else fate.how
        if fate.how == "cut":
            return


def _answer(rows: dict[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    key = str(data.get("key", ""))
    match data.get("op", "get"):
        case "get":
            return {"ok": True, "value": rows.get(key)}
        case "put":
            if len(rows) >= ROWS_MAX and key not in rows:
                return {"refused": f"the store has {ROWS_MAX} rows already"}
            rows[key] = data.get("value")
            return {"ok": True}
        case "near":
            wanted = data.get("vector") or []
            if not _vector(wanted):
                return {"refused": "vector: expected a list of numbers, not all of them 0"}
            near = [k for k, v in rows.items() if _vector(v) and len(v) == len(wanted)]
            near.sort(key=lambda k: (-_likeness(rows[k], wanted), k))
            return {"ok": True, "keys": near[:5]}
        case other:
            return {"refused": f"op: expected get, put or near, got {other!r}"}


def _vector(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(x, (int, float)) and math.isfinite(x) for x in value)
        and any(value)
    )


def _likeness(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
