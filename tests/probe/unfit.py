"""Functions that a probe cannot take as they are, each for another reason."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator


class Thing:
    async def method(self) -> None:
        await asyncio.sleep(0.1)


async def generator() -> AsyncIterator[int]:
    yield 1


async def needs(what: str) -> str:
    await asyncio.sleep(0.1)
    return what


async def raises() -> None:
    await asyncio.sleep(0.1)
    raise ValueError("nothing works")


async def opens_a_socket() -> None:
    await asyncio.open_connection("localhost", 80)


async def hides_a_socket() -> str:
    try:
        await asyncio.open_connection("localhost", 80)
    except Exception:
        return "offline"
    return "online"


def _dial() -> None:
    socket.create_connection(("127.0.0.1", 9), timeout=1.0)


async def socket_in_a_thread() -> None:
    await asyncio.to_thread(_dial)


async def runs_a_program() -> int:
    return subprocess.run(["true"], check=False).returncode  # noqa: ASYNC221 (on purpose)


async def ends_the_process() -> None:
    await asyncio.sleep(0.1)
    os._exit(3)


async def forgets_to_await() -> None:
    asyncio.sleep(1.0)  # type: ignore[unused-coroutine]
    await asyncio.sleep(0.1)
