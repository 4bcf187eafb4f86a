"""Worker threads of a run: jobs that a timeout cannot stop, but must not hang on.

Each run has a pool of its own, made when first needed, so that the run's end (and the
loop's) waits for no thread, and the threads that are left can be named.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["Threads"]

THREADS_MAX = 64


class Threads:
    """The jobs that stages of one run have handed to threads."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._stages: dict[object, str] = {}

    async def call(self, stage: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Await `fn(*args)` in a thread, in the caller's context variables.

        A cancel ends the awaiting at once. It does not end the thread, which `busy` names
        until it has finished. More than `THREADS_MAX` jobs at once wait for each other.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS_MAX, "stage-thread")
        token = object()
        self._stages[token] = stage
        context = contextvars.copy_context()
        job = functools.partial(self._work, token, context, fn, *args)
        return await asyncio.get_running_loop().run_in_executor(self._pool, job)

    def _work(
        self,
        token: object,
        context: contextvars.Context,
        fn: Callable[..., Any],
        *args: Any,
    ) -> Any:
        try:
            return context.run(fn, *args)
        finally:
            self._stages.pop(token, None)

    def busy(self) -> tuple[str, ...]:
        """Name the stages whose jobs have not finished, each once."""
        return tuple(dict.fromkeys(list(self._stages.values())))

    def close(self) -> None:
        """Take no more jobs, drop those not begun, and wait for none."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
