"""Addresses as Go writes them: "host:port", "[::1]:port", errors in Go's wording."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import dataclass

__all__ = ["Address", "AddressError", "bind_error", "literal", "name_of", "resolve", "split"]

LOOPBACK = "127.0.0.1"


class AddressError(ValueError):
    """An address cannot be used; the text says why, as Go says it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A socket address that needs no look-up any more."""

    family: socket.AddressFamily
    host: str
    port: int

    @property
    def sockaddr(self) -> tuple[str, int]:
        return (self.host, self.port)

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
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(
            loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), limit_s
        )
    except TimeoutError:
        raise AddressError(f"lookup {host}: i/o timeout") from None
    except (OSError, UnicodeError):
        raise AddressError(f"lookup {host}: no such host") from None
    inet = (socket.AF_INET, socket.AF_INET6)
    addresses = [Address(f, str(a[0]), int(a[1])) for f, _, _, _, a in found if f in inet]
    return sorted(dict.fromkeys(addresses), key=lambda one: one.family != socket.AF_INET)


def name_of(one: socket.socket) -> str:
    """Return the address that a socket is bound to."""
    host, port = one.getsockname()[:2]
    return str(Address(one.family, host, port))


def bind_error(address: str, exc: OSError) -> str:
    """Word a failed bind as Go does."""
    call = "listen" if exc.errno == errno.EOPNOTSUPP else "bind"
    text = os.strerror(exc.errno) if exc.errno else str(exc)
    return f"listen tcp {address}: {call}: {text[:1].lower()}{text[1:]}"
