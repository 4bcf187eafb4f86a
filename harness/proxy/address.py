"""Addresses as Go writes them: "host:port", "[::1]:port", errors in Go's wording."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Address", "AddressError", "bind_error", "literal", "name_of", "resolve", "split"]

LOOPBACK = "127.0.0.1"
# Look-ups under way; one more than this is answered as one that took too long.
_LOOKUPS_MAX = 64
_LOOKUPS: set[threading.Thread] = set()

_Info = tuple[Any, ...]


class AddressError(ValueError):
    """An address cannot be used; the text says why, as Go says it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A socket address that needs no look-up any more."""

    family: socket.AddressFamily
    host: str
    port: int
    sockaddr: tuple[str, int] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sockaddr", (self.host, self.port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split(text: str) -> tuple[str, int]:
    """Split "host:port"; the port may be a service's name.

    Raises:
        AddressError: it is no such thing.
    """
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        raise AddressError(f"address {text}: missing port in address")
    if host.startswith("["):
        if not host.endswith("]"):
            raise AddressError(f"address {text}: missing ']' in address")
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"address {text}: too many colons in address")
    if "\0" in text:
        raise AddressError("invalid argument")
    if port == "":
        return host, 0
    if port.isascii() and port.lstrip("-").isdigit():
        if len(port) > 5 or not 0 <= int(port) <= 65535:
            raise AddressError(f"address {port[:40]}: invalid port")
        return host, int(port)
    try:
        return host, socket.getservbyname(port, "tcp")
    except (OSError, UnicodeError):
        raise AddressError(f"lookup tcp/{port}: unknown port") from None


def literal(host: str, port: int) -> Address | None:
    """Return the address if the host is a number and needs no look-up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return Address(family, host, port)
    return None


async def resolve(text: str, limit_s: float) -> list[Address]:
    """Return the addresses that "host:port" stands for, IPv4 first.

    No host is loopback, and `localhost` is not looked up: it is dialled too often.

    Raises:
        AddressError: there is none, or the look-up took longer than `limit_s`.
    """
    host, port = split(text)
    known = literal(host or LOOPBACK, port)
    if known is not None:
        return [known]
    if host.lower() == "localhost":
        return [Address(socket.AF_INET, LOOPBACK, port), Address(socket.AF_INET6, "::1", port)]
    try:
        async with asyncio.timeout(limit_s):
            found = await _look_up(host, port)
    except TimeoutError:
        raise AddressError(f"lookup {host}: i/o timeout") from None
    except (OSError, UnicodeError):
        raise AddressError(f"lookup {host}: no such host") from None
    inet = (socket.AF_INET, socket.AF_INET6)
    addresses = [Address(f, str(a[0]), int(a[1])) for f, _, _, _, a in found if f in inet]
    return sorted(dict.fromkeys(addresses), key=lambda one: one.family != socket.AF_INET)


async def _look_up(host: str, port: int) -> list[_Info]:
    """Ask the system's resolver, in a daemon thread.

    Not in the loop's executor: one name server that does not answer would hold up the end of
    the process for as long as the resolver tries.
    """
    if len(_LOOKUPS) >= _LOOKUPS_MAX:
        raise TimeoutError
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[_Info]] = loop.create_future()

    def tell(found: list[_Info], exc: Exception | None) -> None:
        if answer.done():
            return
        if exc is None:
            answer.set_result(found)
        else:
            answer.set_exception(exc)

    def work() -> None:
        found: list[_Info] = []
        failed: Exception | None = None
        try:
            found = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            failed = exc
        _LOOKUPS.discard(threading.current_thread())
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, found, failed)

    thread = threading.Thread(target=work, name="dagstorm-lookup", daemon=True)
    _LOOKUPS.add(thread)
    thread.start()
    return await answer


def name_of(one: socket.socket) -> str:
    """Return the address that a socket is bound to."""
    host, port = one.getsockname()[:2]
    return str(Address(one.family, host, port))


def bind_error(address: str, exc: OSError) -> str:
    """Word a failed bind as Go does."""
    call = "listen" if exc.errno == errno.EOPNOTSUPP else "bind"
    text = os.strerror(exc.errno) if exc.errno else str(exc)
    return f"listen tcp {address}: {call}: {text[:1].lower()}{text[1:]}"
