"""The live tool: what a `call` step awaits on the real clock, from services over sockets.

The live twin of `mocks.tools.SimulatedTool`, and as that one loaded into the engine's own
environment: so it is a client written with the standard library alone. Which service
answers is told by the call: one that gives items is a stream of tokens, one that holds a
resource has a connection of its own to the key-value store, all others are plain tools.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.kernel.errors import HarnessFault
from mocks.network import ASKED_BYTES
from mocks.tools import Ask, SimulatedTool, broken_off

__all__ = ["BadAnswer", "LiveTool"]

LINE_BYTES_MAX = 64 * 1024
HEAD_LINES_MAX = 100
BLOCK_MB = 64
# Of a busy machine's own doing a message may be this late without any toxic.
FELT_S = 0.05


class BadAnswer(Exception):
    """The service answered with an error of its own, or with what is no answer."""


class LiveTool(SimulatedTool):
    """The mocks of a live laboratory.

    Args:
        addresses: service (tool, tokens, kv, events) -> host and port, of the service itself or
            of a proxy on the way to it.
    """

    def __init__(self, addresses: Mapping[str, Sequence[Any]]) -> None:
        self.addresses = addresses

    async def answer(self, ask: Ask) -> None:
        service = "tokens" if ask.chunks else "kv" if ask.holds else "tool"
        if service not in self.addresses:
            raise HarnessFault(f"the live laboratory was given no address of service {service!r}")
        host, port = self.addresses[service]
        call = _Call(ask)
        writer, ending = None, ""
        try:
            reader, writer = await asyncio.open_connection(host, port, limit=LINE_BYTES_MAX)
            writer.write(_asked(ask, service))
            if service == "kv":
                line = await reader.readline()
                await call.take(line if line.endswith(b"\n") else b"")
            else:
                await call.read(reader, stream=service == "tokens")
        except asyncio.CancelledError:
            call.given_up()
            raise
        except ConnectionResetError:
            ending = "reset"  # raised below: as in simulation, it has no other behind it
        except ValueError as exc:  # longer than the limit
            raise BadAnswer(f"{ask.tool} call {ask.number}: no end of a line came") from exc
        finally:
            if writer is not None:
                writer.transport.abort()
        if not call.over or ending:
            raise broken_off(ask, ending or "cut")

    async def collect(self, run: str, number: int, type: str, data: Any, seconds: float) -> None:
        """Hand an event to the collector, which takes its time.

        Raises:
            BadAnswer: if it did not take the event.
        """
        asks = {"run": run, "tool": "sink", "number": number, "seconds": seconds}
        asks |= {"type": type, "data": data}
        writer = None
        try:
            reader, writer = await asyncio.open_connection(*self.addresses["events"])
            writer.write(_posted("/events", json.dumps(asks, default=repr)))
            status = await _status(reader)
        finally:
            if writer is not None:
                writer.transport.abort()
        if status != b"200":
            raise BadAnswer(f"the event collector answered {status.decode() or 'nothing'}")

    async def allocate(self, megabytes: int) -> Any:
        """Really take memory, until the process may have no more; return what was to be had."""
        blocks = []
        try:
            for _ in range(-(-megabytes // BLOCK_MB)):
                blocks.append(bytes(BLOCK_MB << 20))
                await asyncio.sleep(0)
        except MemoryError:
            # The error's traceback would hold them, and with them all memory there is.
            blocks.clear()
            raise
        return blocks


class _Call:
    """One call while its answer comes."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.over = False
        self.toxic = bool(ask.ex.world.plan.toxics)
        self._now = asyncio.get_running_loop().time
        self._began_s = self._now()
        self._due_s = ask.seconds / (ask.chunks + 1)

    async def read(self, reader: asyncio.StreamReader, *, stream: bool) -> None:
        """Read an answer of HTTP/1.0: to the closing of the connection."""
        status = await _status(reader)
        if not status:
            return
        if status != b"200":
            text = (await reader.read(LINE_BYTES_MAX)).decode("utf-8", "replace").strip()
            raise BadAnswer(f"{self.ask.tool} call {self.ask.number}: {text[:200]}")
        while (line := await reader.readline()).endswith(b"\n"):
            if stream and not line.strip():
                continue
            if stream and not line.startswith(b"data: "):
                raise BadAnswer(f"{self.ask.tool} call {self.ask.number}: {line[:20]!r} is no data")
            await self.take(line.removeprefix(b"data: "))
        # The end of the answer is its closing, and that may be late as well.
        self._felt(self.ask.seconds)

    async def take(self, line: bytes) -> None:
        """Take one message of the answer."""
        if not line:
            return  # the connection ended
        try:
            data = json.loads(line)
        except ValueError:
            raise BadAnswer(
                f"{self.ask.tool} call {self.ask.number}: {line[:20]!r} is not JSON"
            ) from None
        self._felt(float(data.get("worked_s", 0.0)))
        if "item" in data:
            self.ask.give(data["item"])
            gap_s = self.ask.seconds / (self.ask.chunks + 1)
            self._due_s = gap_s * (len(self.ask.items) + 1)
        elif "refused" in data:
            raise BadAnswer(f"{self.ask.tool} call {self.ask.number}: {data['refused']}")
        else:
            self.over = True

    def given_up(self) -> None:
        """Note that the stage was cancelled when what it waits for was long due."""
        if self.toxic and self._now() - self._began_s > self._due_s + FELT_S:
            self.ask.feel("silent")

    def _felt(self, worked_s: float) -> None:
        # By the service's own word it took so long: the rest is the way there and back.
        if self.toxic and self._now() - self._began_s > worked_s + FELT_S:
            self.ask.feel("late")


async def _status(reader: asyncio.StreamReader) -> bytes:
    """Read an answer's head; return its status, or nothing if it ended too early."""
    status = (await reader.readline()).split(b" ")[1:2]
    for _ in range(HEAD_LINES_MAX):
        line = await reader.readline()
        if not line:
            return b""
        if line in (b"\r\n", b"\n"):
            break
    return status[0] if status else b""


def _asked(ask: Ask, service: str) -> bytes:
    """Return the request, filled up to the size that it has in simulation as well."""
    data = {
        "run": ask.ex.run,
        "tool": ask.tool,
        "number": ask.number,
        "seconds": ask.seconds,
        "chunks": ask.chunks,
        "error": ask.error,
    }
    if service == "kv":
        data |= {"op": "get", "key": ask.tool}
        return (json.dumps(data).ljust(ASKED_BYTES - 1) + "\n").encode()
    path = "/tokens" if service == "tokens" else f"/tool/{_quoted(ask.tool)}"
    return _posted(path, json.dumps(data), ASKED_BYTES)


def _posted(path: str, body: str, size: int = 0) -> bytes:
    """Return a request of HTTP/1.0, filled up with blanks to `size` bytes."""
    head = f"POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: "
    body = body.ljust(size - len(head) - 7)
    return f"{head}{len(body.encode())}\r\n\r\n{body}".encode()


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
