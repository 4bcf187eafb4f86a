"""The registered cleanups of one run: last in, first out, each handed out once.

The registry belongs to the run, never to the pipeline: runs of one pipeline that
overlap must not see each other's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Cleanup", "CleanupRegistry"]


@dataclass(frozen=True, slots=True)
class Cleanup:
    """A registered cleanup, and the stage that registered it."""

    name: str
    stage: str
    fn: Callable[[], Awaitable[Any]]


class CleanupRegistry:
    """A stack of cleanups."""

    def __init__(self) -> None:
        self._stack: list[Cleanup] = []

    def add(self, cleanup: Cleanup) -> None:
        self._stack.append(cleanup)

    def take(self) -> Cleanup | None:
        """Remove and return the one registered last, or None if there is none left."""
        return self._stack.pop() if self._stack else None
