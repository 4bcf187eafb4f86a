"""A small HTTP/1.1 server for the API: exact statuses, headers and bodies, and a bound on all.

A general server would answer 405 with a body of its own, refuse the verbs it does not know
and add headers; clients of the Go server are used to net/http's manners. What a peer sends
is never trusted: heads, bodies, times and the number of connections are limited, and each
limit has its status.
"""

from __future__ import annotations

import asyncio
import email.utils
import http
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from harness.proxy.limits import Limits

__all__ = ["PLAIN", "HttpServer", "Request", "Response", "refusal"]

PLAIN = "text/plain; charset=utf-8"
_READ_BYTES = 64 << 10
# How much of a request that was refused is read and thrown away, and for how long.
_UNHEARD_BYTES_MAX, _UNHEARD_S = 16 << 20, 2.0
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` is raw (percent-encoded, no query); header names are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


@dataclass(slots=True)
class Response:
    """One answer; a 204 has no body. `pieces` come after `body`, chunked, as they are made."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: AsyncIterator[bytes] | None = None


def refusal(status: int, text: str) -> Response:
    """Answer as Go's `http.Error` does: plain text, a newline, and no sniffing."""
    return Response(status, text.encode() + b"\n", PLAIN, {"X-Content-Type-Options": "nosniff"})


class _Refused(Exception):
    """The bytes are no request that is served; the connection ends after the answer."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class HttpServer:
    """Serves requests one after another on each connection, pipelined ones in their order."""

    def __init__(self, handle: Callable[[Request], Awaitable[Response]], limits: Limits) -> None:
        self._handle = handle
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection is there (a callback for `asyncio.start_server`)."""
        if len(self._tasks) >= self._limits.api_connections_max:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every connection, also in the middle of a request."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming = _Incoming(reader, writer, self._limits)
        try:
            while True:
                try:
                    request = await incoming.request()
                except _Refused as exc:
                    text = f"{exc.status} {http.HTTPStatus(exc.status).phrase}"
                    body = f"{text}: {exc.text}" if exc.text else text
                    self._send(writer, "GET", Response(exc.status, body.encode(), PLAIN), False)
                    await self._sent(writer)
                    await _hear_out(reader, writer)
                    return
                if request is None:
                    return
                response = await self._handle(request)
                self._send(writer, request.method, response, request.keep_alive)
                await self._sent(writer)
                if response.pieces is not None:
                    await self._pieces(writer, response.pieces)
                if not request.keep_alive:
                    return
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()

    async def _sent(self, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._limits.request_timeout_s):
            await writer.drain()

    async def _pieces(self, writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await self._sent(writer)
        writer.write(b"0\r\n\r\n")
        await self._sent(writer)

    def _send(
        self, writer: asyncio.StreamWriter, method: str, response: Response, keep_alive: bool
    ) -> None:
        phrase = http.HTTPStatus(response.status).phrase
        head = [f"HTTP/1.1 {response.status} {phrase}"]
        head += [f"{name}: {value}" for name, value in response.headers.items()]
        if response.content_type is not None:
            head.append(f"Content-Type: {response.content_type}")
        head.append(f"Date: {email.utils.formatdate(usegmt=True)}")
        if response.pieces is not None:
            head.append("Transfer-Encoding: chunked")
        elif response.status != http.HTTPStatus.NO_CONTENT:
            head.append(f"Content-Length: {len(response.body)}")
        if not keep_alive:
            head.append("Connection: close")
        body = b"" if method == "HEAD" else response.body
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body)


async def _hear_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on for a while after a refusal: closing a socket that holds unread bytes sends RST,
    which may overtake the answer."""
    left = _UNHEARD_BYTES_MAX
    writer.write_eof()
    async with asyncio.timeout(_UNHEARD_S):
        while left > 0 and (data := await reader.read(_READ_BYTES)):
            left -= len(data)


class _Incoming:
    """What one connection sends, cut into requests."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._buffer = bytearray()

    async def request(self) -> Request | None:
        """Return the next request, or None at the end of the connection.

        Raises:
            TimeoutError: it took too long.
        """
        if not self._buffer:
            async with asyncio.timeout(self._limits.idle_timeout_s):
                if not await self._more():
                    return None
        async with asyncio.timeout(self._limits.request_timeout_s):
            head = await self._head()
            if head is None:
                return None
            method, path, version, headers = _parse(head)
            connection = headers.get("connection", "").lower()
            keep_alive = (
                "close" not in connection if version == "HTTP/1.1" else "keep-alive" in connection
            )
            body = await self._body(headers, version)
        return Request(method, path, headers, body, keep_alive)

    async def _more(self) -> bool:
        data = await self._reader.read(_READ_BYTES)
        self._buffer += data
        return bool(data)

    async def _head(self) -> bytes | None:
        buffer = self._buffer
        while True:
            # Empty lines before a request are skipped, as RFC 9112 asks for.
            while buffer.startswith((b"\r", b"\n")):
                del buffer[:1]
            found = [(buffer.find(end), len(end)) for end in (b"\r\n\r\n", b"\n\n")]
            ends = [(at, length) for at, length in found if at >= 0]
            if ends and min(ends)[0] <= self._limits.request_head_bytes_max:
                at, length = min(ends)
                head = bytes(buffer[:at])
                del buffer[: at + length]
                return head
            if len(buffer) > self._limits.request_head_bytes_max:
                raise _Refused(431)
            if not await self._more():
                if buffer:
                    raise _Refused(400)
                return None

    async def _body(self, headers: dict[str, str], version: str) -> bytes:
        coding = headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if coding and (coding != "chunked" or length is not None or version != "HTTP/1.1"):
            raise _Refused(400 if coding == "chunked" else 501)
        size = 0
        if length is not None:
            if not (length.isascii() and length.isdigit()):
                raise _Refused(400)
            size = int(length) if len(length) < 19 else self._limits.request_body_bytes_max + 1
        if size > self._limits.request_body_bytes_max:
            raise _Refused(413)
        if (size or coding) and headers.get("expect", "").lower() == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self._chunked() if coding else await self._exactly(size)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not await self._more():
                raise _Refused(400)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _line(self) -> bytes:
        while (at := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > 4096:
                raise _Refused(400)
            if not await self._more():
                raise _Refused(400)
        line = bytes(self._buffer[:at]).rstrip(b"\r")
        del self._buffer[: at + 1]
        return line

    async def _chunked(self) -> bytes:
        body = bytearray()
        while True:
            digits = (await self._line()).split(b";")[0].strip()
            try:
                size = int(digits, 16) if digits.isalnum() and len(digits) < 16 else -1
            except ValueError:
                size = -1
            if size < 0:
                raise _Refused(400)
            if len(body) + size > self._limits.request_body_bytes_max:
                raise _Refused(413)
            if size == 0:
                break
            body += await self._exactly(size)
            if await self._line():
                raise _Refused(400)
        trailer = 0
        while line := await self._line():
            trailer += len(line)
            if trailer > self._limits.request_head_bytes_max:
                raise _Refused(431)
        return bytes(body)


def _parse(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    lines = [line.rstrip("\r") for line in head.decode("latin-1").split("\n")]
    words = lines[0].split(" ")
    if len(words) != 3:
        raise _Refused(400)
    method, target, version = words
    if not method or not set(method) <= _TOKEN or not (target and target.isprintable()):
        raise _Refused(400)
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _Refused(505 if version.startswith("HTTP/") else 400)
    if target.lower().startswith("http://"):
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or not set(name) <= _TOKEN:
            raise _Refused(400)
        value = value.strip(" \t")
        if name in headers and name in ("content-length", "host", "transfer-encoding"):
            raise _Refused(400)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if version == "HTTP/1.1" and "host" not in headers:
        raise _Refused(400, "missing required Host header")
    return method, target.partition("?")[0].partition("#")[0], version, headers
