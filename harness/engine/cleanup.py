"""The registered cleanups of one run: last in, first out, each handed out once.

The registry belongs to the run, never to the pipeline: runs of one pipeline that
overlap must not see each other's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context as Variables
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Cleanup", "CleanupRegistry"]


@dataclass(frozen=True, slots=True)
class Cleanup:
    """A registered cleanup, the stage that registered it, and that one's context variables."""

    name: str
    stage: str
    fn: Callable[[], Awaitable[Any]]
    variables: Variables = field(default_factory=copy_context, compare=False, repr=False)


class CleanupRegistry:
    """A stack of cleanups."""

    def __init__(self) -> None:
        self._stack: list[Cleanup] = []

    def add(self, cleanup: Cleanup) -> None:
        self._stack.append(cleanup)

    def take(self) -> Cleanup | None:
        """Remove and return the one registered last, or None if there is none left."""
        return self._stack.pop() if self._stack else None
