"""Where a task stands: the frames of its coroutine chain, and which of them are the engine's."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from types import CodeType
from typing import Any

__all__ = ["await_chain", "engine_location", "traceback_location", "where_text"]

CHAIN_MAX = 200


def await_chain(coro: Any) -> Iterator[tuple[CodeType, int]]:
    """Yield (code, line) of a suspended coroutine and of what it awaits, outermost first."""
    for _ in range(CHAIN_MAX):
        if coro is None:
            return
        frame = (
            getattr(coro, "cr_frame", None)
            or getattr(coro, "gi_frame", None)
            or getattr(coro, "ag_frame", None)
        )
        if frame is None:
            return
        yield frame.f_code, frame.f_lineno
        coro = (
            getattr(coro, "cr_await", None)
            or getattr(coro, "gi_yieldfrom", None)
            or getattr(coro, "ag_await", None)
        )


def _short(code: CodeType, line: int, root: str) -> str:
    above = os.path.dirname(root.rstrip(os.sep))
    name = os.path.relpath(code.co_filename, above).replace(os.sep, "/")
    return f"{name}:{line} {code.co_qualname}"


def engine_location(coro: Any, root: str) -> str:
    """Return `file:line function` of the innermost frame inside the package folder `root`."""
    found = ""
    for code, line in await_chain(coro):
        if code.co_filename.startswith(root):
            found = _short(code, line, root)
    return found


def traceback_location(exc: BaseException, root: str) -> str:
    """Return `file:line function` of the innermost traceback frame inside `root`, or ""."""
    found = ""
    for frame, line in traceback.walk_tb(exc.__traceback__):
        if frame.f_code.co_filename.startswith(root):
            found = _short(frame.f_code, line, root)
    return found


def where_text(coro: Any) -> tuple[str, ...]:
    """Return `file:line function` for each frame of the chain, folders left out."""
    return tuple(
        f"{os.path.basename(code.co_filename)}:{line} {code.co_qualname}"
        for code, line in await_chain(coro)
    )
