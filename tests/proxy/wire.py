"""Plain HTTP and plain sockets: what the conformance tests see a Toxiproxy server through.

Nothing here knows the server under test, nor uses the harness's own client: a mistake that
both would share could not be seen.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LIMIT_S = 10.0


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        return self.headers.get("content-type", "")


class Api:
    """Sends one request a connection, says what came back."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 8474

    def __call__(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=LIMIT_S)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self("GET", path)

    def post(self, path: str, body: Any = b"") -> Reply:
        return self("POST", path, body)

    def patch(self, path: str, body: Any) -> Reply:
        return self("PATCH", path, body)

    def delete(self, path: str) -> Reply:
        return self("DELETE", path)


class Upstream:
    """A listener whose connections the test holds in its own hands."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(LIMIT_S)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._accepted: list[socket.socket] = []

    def accept(self) -> socket.socket:
        one, _ = self._listener.accept()
        one.settimeout(LIMIT_S)
        self._accepted.append(one)
        return one

    def close(self) -> None:
        for one in [self._listener, *self._accepted]:
            one.close()


@dataclass
class Proxied:
    """A proxy on the server under test, made for one test."""

    api: Api
    name: str
    upstream: Upstream
    opened: list[socket.socket]

    @property
    def path(self) -> str:
        return f"/proxies/{self.name}"

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.api.get(self.path).json["listen"].rpartition(":")
        return host, int(port)

    def connect(self) -> socket.socket:
        """Connect a client to the proxy."""
        one = socket.create_connection(self.address, timeout=LIMIT_S)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened.append(one)
        return one

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Connect a client through the proxy; return it and the server's end."""
        client = self.connect()
        server = self.upstream.accept()
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, server

    def add(self, type: str, **how: Any) -> str:
        """Add a toxic; return its path."""
        reply = self.api.post(f"{self.path}/toxics", {"type": type, **how})
        assert reply.status == 200, reply.body
        return f"{self.path}/toxics/{reply.json['name']}"


def read(one: socket.socket, size: int) -> bytes:
    """Read exactly so many bytes, or fewer if the stream ends."""
    data = bytearray()
    while len(data) < size:
        part = one.recv(size - len(data))
        if not part:
            break
        data += part
    return bytes(data)


def read_all(one: socket.socket) -> bytes:
    """Read to the end of the stream."""
    data = bytearray()
    while part := one.recv(1 << 16):
        data += part
    return bytes(data)


def ending(one: socket.socket) -> str:
    """Say how a stream ends, from here on: eof or reset."""
    try:
        while one.recv(1 << 16):
            pass
        return "eof"
    except ConnectionResetError:
        return "reset"


def silent(one: socket.socket, for_s: float = 0.1) -> bool:
    """Does nothing come, not even an end, for a while?"""
    one.settimeout(for_s)
    try:
        one.recv(1, socket.MSG_PEEK)
        return False
    except TimeoutError:
        return True
    finally:
        one.settimeout(LIMIT_S)


def is_listening(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=LIMIT_S).close()
        return True
    except ConnectionRefusedError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port
