"""What is done with a proxy's sockets beside reading and writing: how they begin and end.

The sockets are those of `_socket` (`socket.SocketType`): what `socket.socket` puts around them
(enumerations made of numbers, a count of files) costs a short connection some 10 µs.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Any

from harness.proxy.address import Address

__all__ = ["UNDER_WAY", "Socket", "accept", "begin_connect", "drain", "listen", "reset_on_close"]

Socket = socket.SocketType

# What `begin_connect` says of a connect that has not been answered yet.
UNDER_WAY = errno.EINPROGRESS
_BACKLOG = 4096
_DRAINED_BYTES_MAX = 1 << 20
_RESET = struct.pack("ii", 1, 0)
# On Linux a socket is made non-blocking in one call, and what a listener accepts has its options.
_LINUX = sys.platform.startswith("linux")
_NON_BLOCKING = socket.SOCK_STREAM | (socket.SOCK_NONBLOCK if _LINUX else 0)


def listen(address: Address) -> socket.socket:
    """Listen there, without blocking. Raises OSError."""
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address.sockaddr)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def accept(listener: socket.socket, family: int) -> tuple[Socket, tuple[Any, ...]]:
    """Return the next client, not blocking, and its address. Raises OSError, as `accept` does."""
    fd, peer = listener._accept()  # type: ignore[attr-defined]
    client = Socket(family, socket.SOCK_STREAM, 0, fd)
    client.setblocking(False)
    if not _LINUX:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, peer


def begin_connect(address: Address) -> tuple[Socket | None, int]:
    """Begin to connect.

    Returns:
        The socket, and 0 if it is connected already or `UNDER_WAY`; or None and the reason why
        it cannot be (an errno).
    """
    upstream: Socket | None = None
    try:
        upstream = Socket(address.family, _NON_BLOCKING)
        if not _LINUX:
            upstream.setblocking(False)
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = upstream.connect_ex(address.sockaddr)
        if code == UNDER_WAY:
            # On loopback the answer is there at once; asking again saves a turn.
            code = upstream.connect_ex(address.sockaddr)
        if not code:
            return upstream, 0
    except (OSError, OverflowError):
        code = errno.EINVAL
    if code == errno.EISCONN:
        return upstream, 0
    if code in (errno.EINPROGRESS, errno.EALREADY):
        return upstream, UNDER_WAY
    if upstream is not None:
        upstream.close()
    return None, code


def reset_on_close(one: Socket) -> None:
    """Have a socket send RST when it is closed."""
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass


def drain(one: Socket, view: memoryview) -> None:
    """Throw away what has come in: closing a socket that holds unread bytes sends RST,
    which may overtake what was written to it before."""
    left = _DRAINED_BYTES_MAX
    try:
        while left > 0:
            count = one.recv_into(view)
            if not count:
                return
            left -= count
    except OSError:
        return
